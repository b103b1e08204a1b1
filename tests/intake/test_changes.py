"""The log as partners follow it: who sees which event, in which order, and what a cursor proves."""

from collections.abc import Sequence
from typing import Any

import pytest

from intake.partners import changes
from intake.partners.changes import (
    Follower,
    page,
)
from intake.partners.cursor import BEGINNING, Cursor, MalformedCursor, parse
from tests.books import append, receive

EVERYTHING = Follower("nobody", frozenset({"G99.01.01", "G99.02.01"}))
A, B = "G99.01.01-261130-0001", "G99.02.01-261130-0001"


def told(found: changes.Page) -> list[tuple[str, int, str]]:
    return [(row["code"], row["version"], row["kind"]) for row in found.rows]


async def all_of(fetch: Any, follower: Follower = EVERYTHING, limit: int = 3) -> list[tuple[str, int, str]]:
    """Everything that this follower sees, page by page."""
    found, after = [], BEGINNING
    while True:
        next_page = await page(fetch, follower, after, limit)
        found += told(next_page)
        if next_page.caught_up:
            return found
        assert next_page.next > after
        after = next_page.next


# -- cursors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cursor", [BEGINNING, Cursor(1, 812, 3, b"abcdef"), Cursor(2**31 - 1, 2**63 - 1, 2**63 - 1, bytes(6))]
)
def test_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    assert parse(cursor.text) == cursor
    assert parse(f" {cursor.text.upper()} ") == cursor
    assert cursor.text.isascii()
    assert len(cursor.text) == 45


def test_no_other_text_is_a_cursor() -> None:
    text = Cursor(1, 812, 3, b"abcdef").text
    cut = [text[:n] for n in range(len(text))]
    wrong = ["", "c1_", "c2_" + text[3:], text + "a", text[:-1] + "1", text[:5] + "-" + text[6:], "c1_" + "7" * 42, "é"]
    for each in [*cut, *wrong]:
        with pytest.raises(MalformedCursor):
            parse(each)


# -- who sees what ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def told_events(writer: Any) -> Any:
    """Two dossiers and what became of them: one was handed from A's agency to B's."""
    await receive(writer, A, submitted_by="portal")
    await receive(writer, B, agency="G99.02.01", origin="G99.02.01", bulk=True)
    await append(writer, A, status=4)
    await append(writer, A, status=4, agency="G99.02.01", came_from="G99.01.01", note="không cho ai", department="P1")
    await append(writer, A, status=5, note="Bổ sung (ví dụ)")
    return writer


VIEWERS: Sequence[tuple[Follower, list[tuple[str, int]]]] = (
    (Follower("x", frozenset({"G99.01.01"})), [(A, 1), (A, 2), (A, 3), (A, 4)]),  # the origin sees all of its own
    (Follower("x", frozenset({"G99.02.01"})), [(B, 1), (A, 3), (A, 4)]),
    (Follower("x", frozenset({"G99.02.01"}), bulk=False), [(A, 3), (A, 4)]),
    (Follower("x", frozenset({"G99.03"})), []),
    (Follower("portal", frozenset({"G99.03"})), [(A, 1)]),
    (Follower("portal", frozenset({"G99.02.01"}), mine=True), [(A, 1)]),
    (Follower("x", frozenset({"G99.01.01", "G99.02.01"})), [(A, 1), (B, 1), (A, 2), (A, 3), (A, 4)]),
)


@pytest.mark.parametrize(("follower", "expected"), VIEWERS)
async def test_event_is_seen_by_those_whose_dossier_it_is_or_was(
    told_events: Any, follower: Follower, expected: list[tuple[str, int]]
) -> None:
    assert [(code, version) for code, version, _ in await all_of(told_events.fetch, follower)] == expected
    rows = (await page(told_events.fetch, EVERYTHING, BEGINNING, 100)).rows
    whole = await told_events.fetch("SELECT *, code || version AS id FROM event")
    seen = {row["id"] for row in whole if follower.sees(row)}
    assert seen == {f"{code}{version}" for code, version in expected}
    assert len(rows) == 5
