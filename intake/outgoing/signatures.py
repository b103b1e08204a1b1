"""The keys of webhooks, and how a delivery is signed: Standard Webhooks, v1a and v1 side by side.

Keys are not stored. Each is derived from the installation's secret, the webhook's id and the number of its generation,
so that one receiver's key tells nothing about another's. Both schemes are sent: many libraries pass v1a over without a
word, and only v1a can be verified by somebody who could not have signed.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_BYTES: Final = 32
BOTH_SIGN_FOR: Final = timedelta(hours=24)
"""How long after a rotation the generation before signs too."""


def secret_of(text: str) -> bytes:
    """The installation's secret. Raises ValueError with one sentence, without the secret."""
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ValueError("expected 64 hexadecimal digits (`openssl rand -hex 32` makes them)")
    return secret


@dataclass(frozen=True, slots=True)
class Keys:
    """The two keys of one generation of one webhook."""

    hmac_key: bytes
    ed25519: Ed25519PrivateKey

    @classmethod
    def of(cls, secret: bytes, webhook: str, generation: int) -> "Keys":
        """Derived anew each time: the same for the same secret, webhook and generation."""

        def derived(scheme: str) -> bytes:
            return hmac.digest(secret, f"{webhook}\n{generation}\n{scheme}".encode(), hashlib.sha256)

        return cls(derived("v1"), Ed25519PrivateKey.from_private_bytes(derived("v1a")))

    @property
    def whsec(self) -> str:
        """The key of v1 as receivers store it; whoever has it can sign."""
        return f"whsec_{b64encode(self.hmac_key).decode()}"

    @property
    def whpk(self) -> str:
        """The public key of v1a."""
        return f"whpk_{b64encode(self.ed25519.public_key().public_bytes_raw()).decode()}"

    def signatures(self, message: bytes) -> tuple[str, str]:
        """Those of both schemes, v1a first."""
        v1a = b64encode(self.ed25519.sign(message)).decode()
        v1 = b64encode(hmac.digest(self.hmac_key, message, hashlib.sha256)).decode()
        return f"v1a,{v1a}", f"v1,{v1}"


def keys_in_force(
    secret: bytes, webhook: str, generation: int, rotated_at: datetime | None, now: datetime
) -> tuple[Keys, ...]:
    """The keys that sign now, the newest first: the generation before too for a day after a rotation."""
    numbers = [generation]
    if generation > 1 and rotated_at is not None and now < rotated_at + BOTH_SIGN_FOR:
        numbers.append(generation - 1)
    return tuple(Keys.of(secret, webhook, number) for number in numbers)


def shared_key_of(whsec: str) -> bytes:
    """The key that a receiver gave us, `whsec_` and base64. Raises ValueError with one sentence, without the key."""
    try:
        key = b64decode(whsec.strip().removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not whsec.strip().startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("expected whsec_ and 24 to 64 bytes in base64, as Standard Webhooks has it")
    return key


def signed_with(key: bytes, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers of a delivery to a receiver that shares its key with us: v1 alone."""
    timestamp = str(int(now.timestamp()))
    message = b".".join((message_id.encode(), timestamp.encode(), body))
    signature = b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def signed(keys: tuple[Keys, ...], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers of a delivery: its id, the moment of this attempt, and the signatures of all these keys."""
    timestamp = str(int(now.timestamp()))
    message = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = " ".join(signature for each in keys for signature in each.signatures(message))
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}
