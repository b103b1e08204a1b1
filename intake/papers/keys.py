"""The key that stamps papers, and the file of public keys that verifies them: made, read, and found wrong.

PostgreSQL never sees the key. The private half is PKCS#8 in PEM, readable by its owner only; the public halves of all
keys that ever stamped stand in one JSON file (lookup/paper_stamp.py), which every lookup reads.
"""

import logging
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from intake.rules.stamps import StampKey
from lookup.paper_stamp import PaperKey, PublicKeys
from ops.errors import Unavailable

log = logging.getLogger(__name__)


class CannotStamp(Exception):
    """The key or the file of public keys is missing or of no use. The message is one sentence, without a key."""


class Configured(Protocol):
    """The settings that name both files."""

    @property
    def paper_key_file(self) -> Path | None: ...
    @property
    def paper_public_keys(self) -> Path | None: ...


def stamp_key_of(settings: Configured) -> Callable[[], StampKey] | None:
    """What gives the key at every paper, and raises Unavailable while it cannot be read; None where none is configured.

    The key is read at the first paper that needs it, and kept: another one needs a restart.
    """
    key_file, public_keys = settings.paper_key_file, settings.paper_public_keys
    if key_file is None or public_keys is None:
        return None
    kept: list[StampKey] = []

    def stamp_key() -> StampKey:
        if not kept:
            try:
                kept.append(read_key(key_file, public_keys))
            except CannotStamp as wrong:
                log.error("No paper can be stamped, so nothing that needs one is recorded: %s", wrong)
                raise Unavailable("No paper can be stamped now.", reason=str(wrong), retry_after=30) from None
        return kept[0]

    return stamp_key


def read_key(key_file: Path, public_keys: Path) -> StampKey:
    """The key in this file, with the id under which its public half is published. Raises CannotStamp."""
    private = read_private(key_file)
    key_id = read_public(public_keys).id_of(private.public_key().public_bytes_raw())
    if key_id is None:
        raise CannotStamp(
            f"the public half of {key_file} is not in {public_keys}, so no lookup could verify a stamp of it"
        )
    return StampKey(key_id, private)


def read_private(path: Path) -> Ed25519PrivateKey:
    """The key in a PKCS#8 file. Raises CannotStamp."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise CannotStamp(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CannotStamp(f"{path} is no private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CannotStamp(f"{path} is no Ed25519 key; `hoso24 paper key` makes one")
    return key


def read_public(path: Path) -> PublicKeys:
    """The public keys in this file. Raises CannotStamp."""
    try:
        return PublicKeys.from_json(path.read_bytes())
    except OSError as error:
        raise CannotStamp(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as wrong:
        raise CannotStamp(f"{path}: {wrong}") from None


def make(key_file: Path, public_keys: Path, *, issuer: str, since: date) -> int:
    """Make a key, add its public half to the file of public keys, and return its id: one more than the highest.

    Raises CannotStamp, also where there is a key already: a new one goes into a file of its own, and every lookup has
    its public half before it is used.
    """
    known = read_public(public_keys) if public_keys.exists() else PublicKeys({})
    key_id = max(known.keys, default=0) + 1
    if key_id > 255:
        raise CannotStamp(f"{public_keys} has the id 255 already, and a stamp has one byte for it")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    keys = PublicKeys({**known.keys, key_id: PaperKey(private.public_key().public_bytes_raw().hex(), issuer, since)})
    try:
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        partly = public_keys.with_name(f".{public_keys.name}.new")
        partly.write_bytes(keys.to_json())
        partly.replace(public_keys)
    except FileExistsError:
        raise CannotStamp(f"{key_file} is there already; give a new key a file of its own") from None
    except OSError as error:
        raise CannotStamp(f"{error.filename} cannot be written ({error.strerror})") from None
    return key_id
