"""A file of dossiers is read however it was saved, or named in a sentence."""

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from intake.bulk.source import LONGEST_LINE, Source, Unreadable

FORMS = [{"code": f"G99.01.01-261118-{n:04d}", "name": 'Nguyễn Văn Mẫu [hư, cấu] \\ " }'} for n in range(1, 400)]
TEXT = "".join(f"{json.dumps(form, ensure_ascii=False)}\n" for form in FORMS)
ARRAY = json.dumps(FORMS, ensure_ascii=False, indent=2)

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-8": lambda text: text.encode(),
    "with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "with CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "utf-16 with a mark": lambda text: text.encode("utf-16"),
    "utf-16-be with a mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip of UTF-16 with CRLF": lambda text: gzip.compress(text.replace("\n", "\r\n").encode("utf-16")),
    "gzip with a byte order mark": lambda text: gzip.compress(text.encode("utf-8-sig")),
}


def lines(data: bytes, position: int = 0) -> list[tuple[bytes | None, int]]:
    return list(Source(io.BufferedReader(io.BytesIO(data))).lines(position))


def read(data: bytes, position: int = 0) -> list[Any]:
    return [json.loads(line) for line, _ in lines(data, position) if line is not None and line.strip()]


@pytest.mark.parametrize(
    "text", [TEXT, ARRAY, " \n" + ARRAY + "\n\n", TEXT.rstrip()], ids=["lines", "array", "indented", "no end"]
)
@pytest.mark.parametrize("saved", ENCODINGS.values(), ids=ENCODINGS)
def test_file_is_read_however_it_was_saved_and_from_every_position(saved: Any, text: str) -> None:
    data = saved(text)
    assert read(data) == FORMS
    ends = [end for line, end in lines(data) if line is None or line.strip()]
    assert ends == sorted(ends)
    for done in (1, 57, len(FORMS) - 1, len(FORMS)):
        assert read(data, ends[done - 1]) == FORMS[done:]


@pytest.mark.parametrize("text", ["", "\n", "[]", " [ \n ] "])
def test_file_without_dossiers_has_none(text: str) -> None:
    for saved in ENCODINGS.values():
        assert read(saved(text)) == []


def test_element_with_broken_json_spoils_no_other() -> None:
    found = [line for line, _ in lines(b'[{"a": tru}, {"b": [1, {"c": "]\\\\"}]}, , {"d": 2}]')]
    assert found == [b'{"a": tru}', b' {"b": [1, {"c": "]\\\\"}]}', b" ", b' {"d": 2}']


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_array_is_read_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("intake.bulk.source._CHUNK", size)
    assert read(json.dumps(FORMS[:20], ensure_ascii=False).encode()) == FORMS[:20]


@pytest.mark.parametrize(("before", "between", "after"), [(b"", b"\n", b""), (b"[", b",", b"]")])
def test_long_lines_and_elements_are_told_apart(before: bytes, between: bytes, after: bytes) -> None:
    longest = b'"' + b"x" * (LONGEST_LINE - 2 - len(between)) + b'"'
    parts = [b"1", b'"' + b"y" * (5 * LONGEST_LINE) + b'"', b"2", longest, b'"' + b"z" * LONGEST_LINE + b'"']
    found = [line and line.strip() for line, _ in lines(before + between.join(parts) + after)]
    assert found == [b"1", None, b"2", longest, None]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"PK\x03\x04....", "It is a ZIP archive or an Excel workbook; save it as JSON, one dossier a line, in UTF-8."),
        (b"<?xml version='1.0'?>", "It is XML or HTML; save it as JSON"),
        (gzip.compress(b"<html>", mtime=0), "It is XML or HTML"),
        (TEXT.encode("utf-32"), "It is in UTF-32; save it in UTF-8"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-200], "The gzip file is cut off; send it again."),
        (TEXT.encode("utf-16")[:-1], "It is not whole UTF-16"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-8] + b"x" * 8, "The gzip file is damaged"),
        (ARRAY[:-2].encode(), "The JSON array is not closed: the file is cut off; send it again."),
        (ARRAY.encode() + b"{}", "Something follows the end of the JSON array"),
    ],
)
def test_other_file_is_named_in_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(Unreadable) as unreadable:
        lines(data)
    assert str(unreadable.value).startswith(sentence)


def test_what_came_before_the_damage_is_whole() -> None:
    found: list[Any] = []
    source = Source(io.BufferedReader(io.BytesIO(ARRAY[:-300].encode())))
    with pytest.raises(Unreadable):
        found.extend(json.loads(line or b"null") for line, _ in source.lines())
    assert found == FORMS[: len(found)]
    assert len(found) > 390
