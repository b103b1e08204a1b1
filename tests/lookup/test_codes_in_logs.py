"""A code in a text becomes its hash in whatever spelling, a key vanishes, and everything else stays."""

import pytest

from lookup import code as codes
from lookup.codes_in_logs import conceal, pseudonym
from lookup.lookup_key import KeyRing
from tests.conftest import KEY_SECRETS

NATIONAL, YEARLY, CENTRAL, LAST = (
    "G99.05.02-261120-90001",
    "01234/2026/99901",
    "G99.001.02-261008-990001",
    "000.00.99.G99-260316-0001",
)
KEY = KeyRing.from_text(KEY_SECRETS).key(codes.parse(NATIONAL))


@pytest.mark.parametrize("code", [NATIONAL, YEARLY, CENTRAL, LAST])
def test_hash_is_that_of_the_code_however_it_is_spelled(code: str) -> None:
    assert pseudonym(code) == pseudonym(codes.parse(code).path) == pseudonym(code.lower()) == pseudonym(f" {code} ")
    assert pseudonym(code) != pseudonym(f"{code[:-1]}2")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (NATIONAL, f"KeyError: '{NATIONAL}'"),
        (NATIONAL, f"dossier:v2:1:{NATIONAL}."),
        (NATIONAL, f"/tra-cuu/{NATIONAL}"),
        (NATIONAL, "g99.05.02 – 261120 – 90001"),
        (NATIONAL, "ｇ９９.05.02－261120－90001"),
        (NATIONAL, "%2FG99.05.02%20%E2%80%93%20261120-9OOO1"),
        (NATIONAL, "'G99.05.02\\u2009-261120\\xa0-90001'"),
        (NATIONAL, "G99.05.02-26ll2O-9ooo1".replace("ll", "l1")),
        (NATIONAL, "G99_05_02_261120_90001"),
        (NATIONAL, "G99,05,02.261120.9000l"),
        (YEARLY, "01234.2026.9990I"),
        (YEARLY, f"Key (number)=({YEARLY}) already exists"),
        (YEARLY, "/api/v1/dossiers/01234-2026-99901"),
        (YEARLY, "01234%2F2026%2F99901"),
        (CENTRAL, CENTRAL),
        (LAST, f"<{LAST}>"),
    ],
)
def test_code_in_a_text_becomes_its_hash(code: str, text: str) -> None:
    concealed = conceal(text)
    assert f"code_hash={pseudonym(code)}" in concealed
    assert not [part for part in ("261120", "261008", "260316", "2026", "99901", "9000") if part in concealed]


@pytest.mark.parametrize("text", [KEY, KEY.lower(), KEY.replace("-", ""), KEY.replace("-", " "), f"?key%3D{KEY}&x"])
def test_key_vanishes(text: str) -> None:
    concealed = conceal(f"no {text} here").lower()
    assert not [group for group in KEY.lower().split("-")[1:] if group in concealed]


@pytest.mark.parametrize(("digits", "hidden"), [(1, False), (2, True)])
def test_word_of_fifteen_letters_is_a_key_if_two_of_them_are_digits(digits: int, hidden: bool) -> None:
    ring = KeyRing({20: b"\x5a" * 32}, 20)  # secret and serial are letters, too
    some = (codes.parse(f"G99.05.02-261120-{number}") for number in range(10_000, 99_999))
    keys = (ring.key(code, 20).replace("-", "") for code in some)
    key = next(key for key in keys if sum(map(str.isdigit, key)) == digits)
    assert (conceal(f"<{key}>") == "<…>") is hidden


def test_key_beside_its_code_vanishes_whole() -> None:
    assert conceal(f"{NATIONAL} / {KEY}") == f"code_hash={pseudonym(NATIONAL)} / …"
    assert conceal(f"{KEY} {YEARLY}") == f"… code_hash={pseudonym(YEARLY)}"


def test_mistyped_key_vanishes_too() -> None:
    assert conceal(f"'{KEY[:-1]}{'0' if KEY[-1] != '0' else '1'}'") == "'…'"


@pytest.mark.parametrize(
    "text",
    [
        "The relay goes on from 123456-78 (leader).",
        "Draining for 5 s.",
        "2026-11-26T18:31:49.123Z",
        "2026-11-26 18:31:49",
        "between 1 and 2147483647",
        'File "lookup/reading/reader.py", line 123, in _read_copies',
        "three short words: hello-world-there",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "550e8400-e29b-41d4-a716-446655440000",
        "127.0.0.1:54321",
        "postgresql://hoso24_reader:***@one:5432,two:5433/hoso24",
        "MalformedLookup format_exception",
        "G99.05.02-991399-0001",  # no such day
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert conceal(text) == text
