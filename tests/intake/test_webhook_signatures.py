"""Signatures of webhooks: verified by the Standard Webhooks library, and by the published key."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from intake.outgoing.signatures import BOTH_SIGN_FOR, Keys, keys_in_force, secret_of, signed

SECRET = secret_of("4b" * 32)
BODY = '{"events": [], "next": "c1_x", "caught_up": false, "á": "Nguyễn"}'.encode()


def verified_by_public_key(whpk: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether one of the v1a signatures is this key's, as a receiver without our code would look."""
    public = Ed25519PublicKey.from_public_bytes(b64decode(whpk.removeprefix("whpk_")))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for each in headers["webhook-signature"].split(" "):
        scheme, _, signature = each.partition(",")
        if scheme == "v1a":
            try:
                public.verify(b64decode(signature), message)
            except InvalidSignature:
                continue
            return True
    return False


def test_both_schemes_are_verified_by_those_who_know_only_one() -> None:
    now = datetime.now(UTC)  # the library takes nothing older than five minutes
    keys = Keys.of(SECRET, "abcdefgh", 1)
    headers = signed((keys,), "wh_abcdefgh_c1_x", now, BODY)
    assert [each.partition(",")[0] for each in headers["webhook-signature"].split(" ")] == ["v1a", "v1"]
    assert Webhook(keys.whsec).verify(BODY, headers)["next"] == "c1_x"
    assert verified_by_public_key(keys.whpk, headers, BODY)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_nothing_that_was_signed_can_be_changed(changed: str) -> None:
    now = datetime.now(UTC)  # the library takes nothing older than five minutes
    keys = Keys.of(SECRET, "abcdefgh", 1)
    headers, body = signed((keys,), "wh_abcdefgh_c1_x", now, BODY), BODY
    if changed == "body":
        body = BODY.replace(b"false", b"true")
    else:
        headers[changed] = str(int(now.timestamp()) + 1) if changed == "webhook-timestamp" else "wh_abcdefgh_c1_y"
    with pytest.raises(WebhookVerificationError):
        Webhook(keys.whsec).verify(body, headers)
    assert not verified_by_public_key(keys.whpk, headers, body)


def test_keys_differ_by_webhook_generation_scheme_and_installation() -> None:
    all_keys = [
        Keys.of(secret, webhook, generation)
        for secret in (SECRET, bytes(32))
        for webhook in ("abcdefgh", "abcdefgh1", "abcdefgi")
        for generation in (1, 2, 11)
    ]
    made = {each.hmac_key for each in all_keys} | {each.ed25519.private_bytes_raw() for each in all_keys}
    assert len(made) == 2 * len(all_keys)
    assert Keys.of(SECRET, "abcdefgh", 2).whpk == Keys.of(SECRET, "abcdefgh", 2).whpk


def test_derived_keys_never_change() -> None:
    """Receivers have them: another derivation would refuse every delivery at once."""
    keys = Keys.of(SECRET, "abcdefgh", 1)
    assert keys.whsec == "whsec_8uVvAfScGHarCtVtyS4RCnr6YR3sUGQUMr5OpFLM2n4="
    assert keys.whpk == "whpk_+b70jCqS4Dd//Wp1nWAvRH8qX4U5vf3dA+YkmpFzgkM="


def test_after_a_rotation_both_generations_sign_for_a_day() -> None:
    now = datetime.now(UTC)  # the library takes nothing older than five minutes
    old, new = Keys.of(SECRET, "abcdefgh", 1), Keys.of(SECRET, "abcdefgh", 2)
    within = keys_in_force(SECRET, "abcdefgh", 2, now - BOTH_SIGN_FOR + timedelta(seconds=1), now)
    headers = signed(within, "wh_abcdefgh_c1_x", now, BODY)
    for keys in (old, new):
        Webhook(keys.whsec).verify(BODY, headers)
        assert verified_by_public_key(keys.whpk, headers, BODY)
    headers = signed(keys_in_force(SECRET, "abcdefgh", 2, now - BOTH_SIGN_FOR, now), "wh_abcdefgh_c1_x", now, BODY)
    Webhook(new.whsec).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.whsec).verify(BODY, headers)
    assert not verified_by_public_key(old.whpk, headers, BODY)


@pytest.mark.parametrize("text", ["", "4b" * 31, "4b" * 33, "zz" * 32, "4b" * 31 + "4"])
def test_a_malformed_secret_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits") as refused:
        secret_of(text)
    assert not text or text not in str(refused.value)
