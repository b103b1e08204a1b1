"""The key that stamps papers. lookup/paper_stamp.py says what a stamp is, and verifies it with public keys alone."""

from datetime import datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lookup.code import DossierCode
from lookup.paper_stamp import DIGEST_BYTES, Stamp


class StampKey:
    """An Ed25519 key and the id under which its public half is published."""

    def __init__(self, key_id: int, private: Ed25519PrivateKey) -> None:
        self.key_id = key_id
        self._private = private

    def __repr__(self) -> str:
        return f"StampKey({self.key_id})"

    def stamp(
        self, code: DossierCode, form: str, received_at: datetime | None, due_at: datetime | None, digest: bytes
    ) -> Stamp:
        """The stamp of a paper whose content has this SHA-256."""
        stamp = Stamp(self.key_id, form, received_at, due_at, digest[:DIGEST_BYTES])
        return msgspec.structs.replace(stamp, signature=self._private.sign(stamp.signed(code)))
