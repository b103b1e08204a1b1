"""What stands for a dossier and a channel outside: the links that withdraw a consent, and the ids of notices.

A link's token is the code and the channel, encrypted and authenticated (AES-SIV, RFC 5297): the same for every mail
about a dossier, so that a repeated mail is the same, and no log on the way holds a code. Nothing is stored for it.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from intake.rules.channels import CHANNELS

SECRET_BYTES: Final = 32


def secret_of(text: str) -> bytes:
    """The installation's secret. Raises ValueError with one sentence, without the secret."""
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ValueError("expected 64 hexadecimal digits (`openssl rand -hex 32` makes them)")
    return secret


class Tokens:
    """Makes and reads tokens. With another secret, links in mails that were sent before open nothing."""

    def __init__(self, secret: bytes) -> None:
        self._siv = AESSIV(hmac.digest(secret, b"withdraw", hashlib.sha512))
        self._id_key = hmac.digest(secret, b"id", hashlib.sha256)

    def token(self, code: str, channel: str) -> str:
        """What the link in a notice holds."""
        sealed = self._siv.encrypt(f"{code}\n{channel}".encode(), None)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def read(self, token: str) -> tuple[str, str] | None:
        """The code and channel of a token; None for any other text."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            code, _, channel = self._siv.decrypt(sealed, None).decode().partition("\n")
        except (binascii.Error, InvalidTag, ValueError):
            return None
        return (code, channel) if channel in CHANNELS and self.token(code, channel) == token else None

    def notice_id(self, code: str, version: int, channel: str) -> str:
        """A notice's id, the same at every attempt, by which receivers know one that came twice."""
        told = f"{code}\n{version}\n{channel}".encode()
        return hmac.digest(self._id_key, told, hashlib.sha256)[:16].hex()
