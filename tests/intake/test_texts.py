"""Texts from outside: composed before they are measured, and refused where they show something else, or nothing."""

import sys
import unicodedata
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.rules import texts
from intake.rules.texts import UnclearText, before_composing, clean, clean_fields, clean_or_none, repeated_key, shows

NAME = "Nguyễn Thị Thử Nghiệm (hư cấu)"


def test_text_is_composed_and_measured_afterwards() -> None:
    decomposed = unicodedata.normalize("NFD", NAME)
    assert len(decomposed) > len(NAME)
    assert clean(decomposed, len(NAME)) == NAME
    with pytest.raises(UnclearText, match=rf"has {len(NAME)} characters; it may have {len(NAME) - 1}"):
        clean(decomposed, len(NAME) - 1)


@pytest.mark.parametrize("letter", ["ộ", "ẩ", "ỡ", "ẵ", "ự", "đ"])
def test_no_vietnamese_letter_decomposes_into_more_than_is_allowed_before(letter: str) -> None:
    assert len(unicodedata.normalize("NFD", letter)) <= before_composing(1)


def test_line_has_single_blanks_and_a_text_keeps_its_lines() -> None:
    assert clean("  Số 5\r\nphường\u00a0 Mẫu\t(hư cấu) ", 100) == "Số 5 phường Mẫu (hư cấu)"
    assert clean("  Bổ sung:\r\n– sổ  \r– thẻ\n", 100, lines=True) == "Bổ sung:\n– sổ  \n– thẻ"


@pytest.mark.parametrize(
    "blank", ["", " ", "\t\n", "\u00a0", "\u3000", "\u200b", "\ufeff\u2060", "\u3164", "\u2800", "\u0301"]
)
def test_what_shows_nothing_is_refused(blank: str) -> None:
    assert not shows(blank)
    with pytest.raises(UnclearText, match="it is blank"):
        clean(blank, 100)


@pytest.mark.parametrize("text", [".", "Ω", "李", "🙂", "ả"])
def test_what_shows_little_is_taken(text: str) -> None:
    assert shows(text)
    assert clean(text, 1) == text


@pytest.mark.parametrize(
    "mark",
    [
        "\u202e",
        "\u202a",
        "\u2066",
        "\u2069",
        "\u200e",
        "\u200f",
        "\u061c",
        "\x00",
        "\x1b",
        "\x7f",
        "\x85",
        "\x9f",
        "\ud800",
    ],
)
def test_controls_and_marks_of_direction_are_refused_by_their_number(mark: str) -> None:
    with pytest.raises(UnclearText, match=f"U\\+{ord(mark):04X}"):
        clean(f"Trần Văn{mark} Thử", 100)


def test_absent_text_is_none_and_a_hidden_one_is_refused() -> None:
    assert clean_or_none(None, 10) is clean_or_none("", 10) is clean_or_none(" \n", 10) is None
    assert clean_or_none(" a ", 10) == "a"
    with pytest.raises(UnclearText):
        clean_or_none("\u200b", 10)


class Person(msgspec.Struct, frozen=True):
    name: str
    note: str | None = None
    other: str | None = None

    def __post_init__(self) -> None:
        clean_fields(self, {"name": 30, "note": 20}, lines=frozenset({"note"}))


class Form(msgspec.Struct):
    applicant: Person


def test_fields_are_cleaned_where_a_struct_is_read_and_the_refusal_names_the_place() -> None:
    sent = {"applicant": {"name": unicodedata.normalize("NFD", f" {NAME}"), "note": "a\r\nb", "other": " x "}}
    applicant = msgspec.json.decode(msgspec.json.encode(sent), type=Form).applicant
    assert applicant == Person(NAME, "a\nb", " x ")
    assert applicant.name == NAME
    with pytest.raises(msgspec.ValidationError, match=r"name: it is blank - at `\$\.applicant`"):
        msgspec.json.decode(b'{"applicant":{"name":"   "}}', type=Form)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}', None),
        ('{"name": "a", "id": 1, "name": "b"}', "name"),
        ('{"id": 1, "applicant": {"name": "a", "kind": 1, "name": "a"}}', "name"),
        ('[{"a": 1}, {"b": 1, "b": 1, "c": 2, "c": 3}]', "b"),
        (r'{"kind": 1, "k\u0069nd": 2}', "kind"),
        ('{"họ tên": 1, "họ tên": 2}', "họ tên"),
        ("[]", None),
        ("1", None),
    ],
)
def test_key_that_stands_twice_in_an_object_is_found(text: str, key: str | None) -> None:
    assert repeated_key(text.encode()) == key


def test_no_refused_character_is_printable() -> None:
    """`clean` looks for them in texts that are not printable only."""
    refused = [each for each in map(chr, range(sys.maxunicode + 1)) if texts._REFUSED.match(each)]
    assert len(refused) > 2000
    assert not any(each.isprintable() for each in refused)


@given(st.text(st.characters() | st.sampled_from(' \t\r\n:"\u202e\u3164\u2800'), max_size=12), st.booleans())
def test_shortcuts_of_clean_change_nothing(text: str, lines: bool) -> None:
    assert _outcome(clean, text, lines) == _outcome(_cleaned_slowly, text, lines)


def _cleaned_slowly(text: str, longest: int, *, lines: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    if found := texts._REFUSED.search(text):
        raise UnclearText(f"it contains the character U+{ord(found[0]):04X}, which cannot be shown")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip() if lines else " ".join(text.split())
    if len(text) > longest:
        raise UnclearText(f"it has {len(text)} characters; it may have {longest}")
    if not any(unicodedata.category(each)[0] in "LNPS" and each not in texts._BLANK_ALL_THE_SAME for each in text):
        raise UnclearText("it is blank")
    return text


def _outcome(cleaner: Callable[..., str], text: str, lines: bool) -> str:
    try:
        return cleaner(text, 10, lines=lines)
    except UnclearText as unclear:
        return repr(unclear)
