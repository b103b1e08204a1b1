"""The lookup key opens one dossier, survives bad typing, and finds its own typing mistakes."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup.code import DossierCode, Scheme, issue, parse
from lookup.lookup_key import ALPHABET, HIGHEST_SERIAL, KeyFlaw, KeyRing, MalformedKey, canonical, is_meant

GOOD = "5a" * 32
RING = KeyRing.from_text(f"1:{GOOD}")
CODE = parse("G99.01.01-261122-0001")
PRINTED = "10QSW-F3K68-E4RM4"

codes = st.builds(lambda sequence: issue(Scheme.B, "G99.01.01", date(2026, 11, 22), sequence), st.integers(1, 99_999))
serials = st.integers(0, HIGHEST_SERIAL)


def check_character(body: str) -> str:
    """The character that makes this body a well-formed key."""
    for character in ALPHABET:
        try:
            RING.serial(CODE, body + character)
        except MalformedKey:
            continue
        return character
    raise AssertionError(body)


def test_key_printed_once_opens_for_ever() -> None:
    assert RING.key(CODE) == PRINTED
    assert RING.serial(CODE, PRINTED) == 0


@given(codes, serials)
def test_key_opens_its_dossier_at_its_serial(code: DossierCode, serial: int) -> None:
    assert RING.serial(code, RING.key(code, serial)) == serial


@given(codes, codes)
def test_key_of_another_dossier_does_not_open(code: DossierCode, other: DossierCode) -> None:
    if code != other:
        assert RING.serial(code, RING.key(other)) is None


def test_key_is_bound_to_its_serial() -> None:
    body = RING.key(CODE, 0).replace("-", "")[:-1]
    forged = body[0] + ALPHABET[1] + body[2:]
    assert RING.serial(CODE, forged + check_character(forged)) is None


def test_key_made_by_a_stranger_does_not_open() -> None:
    stranger = KeyRing.from_text("1:" + "5b" * 32)
    assert RING.serial(CODE, stranger.key(CODE)) is None


def test_key_of_an_old_secret_still_opens_and_new_ones_use_the_new() -> None:
    rotated = KeyRing.from_text("2:" + "6b" * 32 + ",1:" + "5a" * 32)
    assert rotated.serial(CODE, PRINTED) == 0
    assert rotated.key(CODE) != PRINTED
    assert rotated.key(CODE).startswith("2")
    assert rotated.serial(CODE, rotated.key(CODE)) == 0


def test_key_under_an_unknown_secret_does_not_open() -> None:
    unknown = KeyRing.from_text("7:" + "5a" * 32)
    assert RING.serial(CODE, unknown.key(CODE)) is None
    # Nor one made with the bytes that stand in for a missing secret.
    assert RING.serial(CODE, KeyRing({7: b"\0" * 32}, 7).key(CODE)) is None


@given(codes, st.integers(0, 14), st.sampled_from(ALPHABET))
def test_every_mistyped_character_is_found(code: DossierCode, position: int, character: str) -> None:
    key = RING.key(code).replace("-", "")
    if key[position] == character:
        return
    with pytest.raises(MalformedKey, match="letters or digits is wrong"):
        RING.serial(code, key[:position] + character + key[position + 1 :])


@pytest.mark.parametrize("typed", [PRINTED.replace("0", "O").replace("1", "I"), PRINTED.replace("1", "l").lower()])
def test_letters_that_look_like_digits_are_forgiven(typed: str) -> None:
    assert typed != PRINTED
    assert RING.serial(CODE, typed) == 0


@pytest.mark.parametrize(
    "typed",
    [
        "10QSWF3K68E4RM4",
        "10qsw-f3k68-e4rm4",
        " 10QSW F3K68 E4RM4\r\n",
        "10QSW–F3K68—E4RM4",
        "10QSW‑F3K68−E4RM4",
        "10QSW\u00a0F3K68\u200bE4RM4",
        "１０ＱＳＷ－Ｆ３Ｋ６８－Ｅ４ＲＭ４",
    ],
)
def test_spelling_is_forgiven(typed: str) -> None:
    assert RING.serial(CODE, typed) == 0


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "-----",
        "10QSW-F3K68-E4RM",
        "10QSW-F3K68-E4RM44",
        "U0QSW-F3K68-E4RM4",
        "10QSW-F3K68-E4RM5",
        "1٠QSW-F3K68-E4RM4",
        "10QSW%20F3K68%20E4RM4",
        "ĐĐĐĐĐ-ĐĐĐĐĐ-ĐĐĐĐĐ",
        "\0" * 15,
        "0" * 10_000,
        " " * 61,
    ],
)
def test_what_cannot_have_been_printed_is_malformed(typed: str) -> None:
    with pytest.raises(MalformedKey):
        RING.serial(CODE, typed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:",
        "1:5a",
        f"x:{GOOD}",
        f"32:{GOOD}",
        f"-1:{GOOD}",
        "1:" + "zz" * 32,
        f"1:{GOOD},1:{GOOD}",
        f"1:{GOOD},",
    ],
)
def test_secrets_that_cannot_be_used_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the settings say it in their own words
        KeyRing.from_text(text)


def test_key_may_be_typed_with_as_many_blanks_as_four_times_its_length_holds() -> None:
    key = RING.key(CODE)
    assert canonical(key.ljust(60)) == key
    with pytest.raises(MalformedKey):
        canonical(key.ljust(61))


@pytest.mark.parametrize(
    ("typed", "flaw", "told"),
    [
        ("", KeyFlaw.EMPTY, "Enter the access key."),
        (" - ", KeyFlaw.EMPTY, "Enter the access key."),
        ("10QSW-F3K68", KeyFlaw.LENGTH, "you entered 10."),
        ("10QSW-F3K68-E4RM44", KeyFlaw.LENGTH, "you entered 16."),
        ("0" * 10_000, KeyFlaw.LENGTH, "you entered 10000."),
        ("10QSW-F3K68-E4RM5", KeyFlaw.CHECK, "One of the letters or digits is wrong."),
        ("U0QSW-F3K68-E4RM4", KeyFlaw.CHECK, "One of the letters or digits is wrong."),
    ],
)
def test_refusal_says_what_is_wrong_with_a_key_and_not_the_key(typed: str, flaw: KeyFlaw, told: str) -> None:
    with pytest.raises(MalformedKey) as refused:
        canonical(typed)
    assert refused.value.flaw is flaw
    assert told in refused.value.detail
    assert "QSW" not in refused.value.detail + refused.value.detail_vi
    assert not refused.value.detail_vi.isascii()


@pytest.mark.parametrize(
    "typed", [PRINTED, PRINTED.lower(), PRINTED.replace("-", ""), "10QSW F3K68 E4RM5", "1OQSW–F3K68–E4RM4"]
)
def test_key_is_known_as_one_where_a_code_is_asked_for(typed: str) -> None:
    assert is_meant(typed)


@pytest.mark.parametrize(
    "typed",
    ["", "G99.01.02-261008-0975", "10QSW", "hello-world-there", "123456789012345", "0" * 10_000, "G9901 26100 8097"],
)
def test_other_text_is_not_taken_for_a_key(typed: str) -> None:
    assert not is_meant(typed)
