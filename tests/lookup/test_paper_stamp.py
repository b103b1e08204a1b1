"""The stamp on a paper: only what a known key signed for this dossier passes, however the text comes."""

import base64
from datetime import UTC, date, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from intake.rules.stamps import StampKey
from lookup import code as codes
from lookup.paper_stamp import FORMS, NotStamped, PaperKey, PublicKeys, read_stamp

NEW, OLD = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32), Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
CODE, OTHER = codes.parse("G99.01.01-261130-0147"), codes.parse("G99.01.01-261130-0148")
RECEIVED, DUE = datetime(2026, 11, 30, 2, 41, tzinfo=UTC), datetime(2026, 12, 7, 2, 41, tzinfo=UTC)
DIGEST = bytes(range(32))


KEYS = PublicKeys.from_json(
    b'{"1": {"key": "%s", "issuer": "x", "from": "2026-01-01"},'
    b' "2": {"key": "%s", "issuer": "y", "from": "2026-12-01"}}'
    % tuple(each.public_key().public_bytes_raw().hex().encode() for each in (OLD, NEW))
)
TEXT = StampKey(2, NEW).stamp(CODE, "receipt", RECEIVED, DUE, DIGEST).text(CODE)


def test_stamp_says_what_was_stamped_and_by_which_key() -> None:
    stamped = KEYS.verified(TEXT)
    assert (stamped.code, stamped.stamp.form, stamped.stamp.received_at, stamped.stamp.due_at) == (
        *(CODE, "receipt"),
        *(RECEIVED, DUE),
    )
    assert (stamped.stamp.digest, stamped.key.issuer) == (DIGEST[:16], "y")


def test_old_key_still_verifies_as_the_old_one() -> None:
    stamped = KEYS.verified(StampKey(1, OLD).stamp(CODE, "refusal", None, None, DIGEST).text(CODE))
    assert (stamped.key.issuer, stamped.stamp.form, stamped.stamp.received_at) == ("x", "refusal", None)


def test_text_is_of_the_characters_that_a_qr_code_packs_and_an_address_does_not_escape() -> None:
    assert set(TEXT) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.")
    assert len(TEXT) == len(CODE.path) + 1 + 148


@pytest.mark.parametrize(
    "written",
    [
        f"https://hoso24.example/kiem-tra?s={TEXT}",
        f"HTTPS://HOSO24.EXAMPLE/KIEM-TRA/{TEXT}",
        TEXT.lower(),
        f"  Mã: {TEXT} \n",
    ],
)
def test_stamp_is_found_in_links_and_among_words(written: str) -> None:
    assert KEYS.verified(written).code == CODE


def test_no_single_bit_of_a_stamp_may_change() -> None:
    _, stamp = read_stamp(TEXT)
    whole = bytearray(stamp._head() + stamp.signature)
    for bit in range(len(whole) * 8):
        whole[bit // 8] ^= 1 << bit % 8
        forged = f"{CODE.path}.{base64.b32encode(whole).decode().rstrip('=')}"
        with pytest.raises(NotStamped):
            KEYS.verified(forged)
        whole[bit // 8] ^= 1 << bit % 8


def test_no_character_of_a_stamp_may_change() -> None:
    start = len(CODE.path) + 1
    for at in range(start, len(TEXT)):
        for other in "A5":
            if TEXT[at] != other:
                with pytest.raises(NotStamped):
                    KEYS.verified(TEXT[:at] + other + TEXT[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(CODE.path, OTHER.path),
        TEXT[:-1],
        f"{TEXT}A",
        "",
        TEXT.partition(".")[2],
        "\0" * 100,
        "x" * 10_240,
        TEXT + " " * 10_240,
        StampKey(2, OLD).stamp(CODE, "receipt", RECEIVED, DUE, DIGEST).text(CODE),
        StampKey(3, NEW).stamp(CODE, "receipt", RECEIVED, DUE, DIGEST).text(CODE),
    ],
    ids=["other dossier", "cut", "longer", "empty", "no code", "zeros", "10 kB", "after it 10 kB", "key", "unknown id"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NotStamped):
        KEYS.verified(text)


def test_forms_keep_their_numbers() -> None:
    assert FORMS == ("receipt", "supplement", "refusal", "apology", "stop", "control")
    for form in FORMS:
        assert KEYS.verified(StampKey(2, NEW).stamp(CODE, form, None, DUE, DIGEST).text(CODE)).stamp.form == form


def test_times_beyond_2106_fit() -> None:
    late = datetime(2199, 12, 31, tzinfo=UTC)
    assert (
        KEYS.verified(StampKey(2, NEW).stamp(CODE, "receipt", RECEIVED, late, DIGEST).text(CODE)).stamp.due_at == late
    )


def test_official_number_as_code() -> None:
    number = codes.parse("01234/2026/99901")
    assert KEYS.verified(StampKey(2, NEW).stamp(number, "receipt", None, None, DIGEST).text(number)).code == number


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not written as they should be"),
        (b"[]", "not written as they should be"),
        (b'{"256": {"key": "%s", "issuer": "x", "from": "2026-01-01"}}' % (b"0" * 64), "not written"),
        (b'{"1": {"key": "abc", "issuer": "x", "from": "2026-01-01"}}', "not written"),
        (
            b'{"1": {"key": "%(k)s", "issuer": "x", "from": "2026-01-01"},'
            b' "2": {"key": "%(k)s", "issuer": "y", "from": "2026-01-01"}}' % {b"k": b"0" * 64},
            "two ids",
        ),
    ],
)
def test_file_of_public_keys_that_is_none_is_refused_with_a_sentence(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PublicKeys.from_json(text)


def test_file_of_public_keys_is_written_as_it_is_read() -> None:
    again = PublicKeys.from_json(KEYS.to_json())
    assert again.keys == KEYS.keys
    assert again.keys[2] == PaperKey(NEW.public_key().public_bytes_raw().hex(), "y", date(2026, 12, 1))
    assert again.id_of(NEW.public_key().public_bytes_raw()) == 2
    assert again.id_of(bytes(32)) is None
