"""A line says what happened, and not to whom: hashes, causes without what they quote, nothing that was sent."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict

from ops.observe import redaction
from ops.observe.redaction import cleaned, hashed, told


@pytest.fixture(autouse=True)
def _no_key_stays() -> Iterator[None]:
    yield
    redaction.use_key(None)


def test_hash_is_the_same_for_the_same_key_only() -> None:
    redaction.use_key("one")
    first = hashed("H26-1")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == hashed("H26-1") == redaction.hashed_by("one", "H26-1") != hashed("H26-2")
    known = [redaction.hashed_by(key, "H26-1") for key in ("two", "one")]
    assert redaction.hashes_by("two\n\none \n", "H26-1") == known
    redaction.use_key(" two\n one")
    assert hashed("H26-1") == redaction.hashed_by("two", "H26-1")
    assert hashed("H26-1") != first
    redaction.use_key(None)
    by_chance = hashed("H26-1")
    redaction.use_key(None)
    assert by_chance not in (first, hashed("H26-1"))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_exception_is_told_with_where_it_was_raised_and_what_led_to_it() -> None:
    try:
        try:
            raise KeyError("status")
        except KeyError as missing:
            raise RuntimeError("no such column") from missing
    except RuntimeError as error:
        lines = told(error).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "KeyError: 'status'" in lines
    assert lines[-1] == "RuntimeError: no such column"
    assert lines.index("This led to:") > lines.index("KeyError: 'status'")
    assert f'  File "{__file__}", line' in told(raised(ValueError()))


def test_cause_that_goes_in_a_circle_is_told_once() -> None:
    one, two = raised(ValueError("one")), raised(ValueError("two"))
    one.__cause__, two.__cause__ = two, one
    assert told(one).count("ValueError: one") == 1


def test_every_exception_of_a_group_is_told() -> None:
    text = told(raised(ExceptionGroup("both", [ValueError("first"), KeyError("second")])))
    assert "ValueError: first" in text
    assert "KeyError: 'second'" in text


def test_row_that_a_database_prints_below_its_message_is_left_out() -> None:
    text = told(
        raised(RuntimeError("violates a check\nDETAIL:  Failing row contains (1, Nguyen Van Mau, 0000000001)."))
    )
    assert text.endswith("RuntimeError: violates a check")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("time data 'Nguyễn' does not match", "time data '…' does not match"),
        ('the name "Tran Thi Mau" is too long', 'the name "…" is too long'),
        ('null value in column "code" of relation "dossier"', 'null value in column "code" of relation "dossier"'),
        ("Connect call failed ('127.0.0.1', 5432)", "Connect call failed ('127.0.0.1', 5432)"),
    ],
)
def test_quoted_text_that_may_be_a_name_is_left_out(text: str, shown: str) -> None:
    assert told(raised(ValueError(text))).endswith(f"ValueError: {shown}")


def test_exception_whose_text_cannot_be_had_is_told_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise LookupError

    assert told(raised(Broken())).endswith("Broken: its text cannot be had")


def request(**parts: Any) -> Any:
    """What `cleaned` looks at of aiohttp's requests."""
    usual = {"query": {}, "cookies": {}, "headers": CIMultiDict(), "raw_path": "/", "match_info": Matched("/")}
    return SimpleNamespace(**usual | parts)


class Matched(dict[str, str]):
    """A match: the variable parts, and whether there is a route."""

    def __init__(self, resource: object, **parts: str) -> None:
        super().__init__(parts)
        self.route = SimpleNamespace(resource=resource)


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ({"match_info": Matched("/x/{code}", code="h26 – odd")}, "KeyError('h26 – odd')"),
        ({"match_info": Matched("/x/{code}", code="h26\u200bodd")}, repr(KeyError("h26\u200bodd"))),
        ({"match_info": Matched("/x/{code}", code="h26 – odd")}, "http://x/h26%20%E2%80%93%20odd"),
        ({"match_info": Matched(None), "raw_path": "/h26%20odd/y?z"}, "nothing at h26 odd"),
        ({"match_info": Matched("/"), "query": {"ma": "h26-odd"}}, "no h26-odd"),
        ({"match_info": Matched("/"), "cookies": {"key": "h26-odd"}}, "no h26-odd"),
        ({"match_info": Matched("/"), "headers": CIMultiDict({"Their-Key": "h26-odd"})}, "no h26-odd"),
        ({"match_info": Matched("/"), "headers": CIMultiDict({"Authorization": "Bearer h26-odd"})}, "no h26-odd"),
    ],
)
def test_what_the_client_sent_is_left_out_wherever_it_is_quoted(sent: dict[str, Any], line: str) -> None:
    before = redaction.asking.set(request(**sent))
    try:
        value = cleaned({"message": [line], "seconds": 0.25, "odd": {line}}, str)
    finally:
        redaction.asking.reset(before)
    assert "h26" not in str(value)
    assert value["seconds"] == 0.25
    assert cleaned(line, str) == line


def test_short_values_are_no_names_and_stay() -> None:
    before = redaction.asking.set(request(match_info=Matched("/"), query={"at_least": "1"}))
    try:
        assert cleaned("1 of 10", str) == "1 of 10"
    finally:
        redaction.asking.reset(before)


def test_domain_has_its_say_about_every_text() -> None:
    line = {"H1": "H1", "deep": [("H1", 1)], "none": None}
    assert cleaned(line, lambda text: text.replace("H1", "…")) == {"…": "…", "deep": [["…", 1]], "none": None}
