"""The account a local server runs as, and files that only their owner can read.

Started as root, a server runs as an unprivileged account; otherwise as the caller. No account is created.
"""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.local.cannot_start import CannotStart

# Servers do not inherit the caller's environment: a stray PGPORT or TZ would change their behaviour.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


UP_USER = "HOSO24_UP_USER"
"""The variable that names the account of servers that root starts."""
PROGRAM = Path(__file__).resolve().parents[2]
"""The checkout, whose owner servers run as."""


@dataclass(frozen=True)
class Account:
    """The account of a server that is started by root. `shared`: other programs of the machine may run as it too, and
    can then read the server's files and stop it."""

    name: str
    uid: int
    gid: int
    shared: bool = False

    @classmethod
    def unprivileged(cls) -> "Account | None":
        """None unless we are root: then the checkout's owner if that is not root, else the account that HOSO24_UP_USER
        names, else `nobody` or another shared one. Raises CannotStart when there is none.
        """
        if os.geteuid() != 0:
            return None
        with suppress(KeyError):  # an owner without an account: initdb would refuse to run as it
            owner = cls._of(pwd.getpwuid(PROGRAM.stat().st_uid))
            if owner is not None:
                return owner
        name = os.environ.get(UP_USER, "")
        if name:
            return cls._named(name)
        for name in ("nobody", "daemon", "postgres"):
            with suppress(KeyError):
                account = cls._of(pwd.getpwnam(name), shared=True)
                if account is not None:
                    return account
        raise CannotStart(f"Root needs an account to run servers as: name one in {UP_USER}, or start as another user.")

    @classmethod
    def _named(cls, name: str) -> "Account":
        try:
            account = cls._of(pwd.getpwnam(name))
        except KeyError:
            raise CannotStart(f"{UP_USER} names {name}, and there is no such account.") from None
        if account is None:
            raise CannotStart(f"{UP_USER} names {name}, which is root itself: name an account without privileges.")
        return account

    @classmethod
    def _of(cls, entry: pwd.struct_passwd, *, shared: bool = False) -> "Account | None":
        # On macOS the uid of `nobody` is negative, and no process can run with it.
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, shared) if entry.pw_uid > 0 else None

    def can_enter(self, directory: Path) -> bool:
        """Whether this account can search the directory; tested as that account, because ACLs count too."""
        # The directory is passed as $0, so that the shell does not interpret its name.
        return succeeds(["/bin/sh", "-c", 'test -x "$0"', str(directory)], self)


def identity(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def succeeds(command: Sequence[str], account: Account | None) -> bool:
    try:
        outcome = subprocess.run(
            command, cwd="/", env=ENVIRONMENT, capture_output=True, check=False, **identity(account)
        )
    except OSError:
        return False
    return outcome.returncode == 0


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replaces a file atomically; only its owner can read it at any moment."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            if account is not None:
                os.fchown(descriptor, account.uid, account.gid)
            file.write(text)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def private(path: str, flags: int) -> int:
    """An opener for files that only their owner can read."""
    return os.open(path, flags, 0o600)


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
