"""The log as partners follow it: who sees which event, in which order, and what a cursor proves."""

import random
from collections.abc import Sequence
from datetime import date
from typing import Any

import asyncpg
import msgspec
import pytest

from intake.partners import changes
from intake.partners.changes import (
    FeedHalted,
    FeedRewound,
    Follower,
    agencies_seen,
    cursor_of,
    newest,
    page,
    since,
)
from intake.partners.cursor import BEGINNING, Cursor, MalformedCursor, parse
from lookup.catalogue import Agency, Catalogue
from lookup.clock import local
from tests.books import append, receive, utc
from tests.conftest import Database

EVERYTHING = Follower("nobody", frozenset({"G99.01.01", "G99.02.01"}))
A, B = "G99.01.01-261130-0001", "G99.02.01-261130-0001"


def told(found: changes.Page) -> list[tuple[str, int, str]]:
    return [(row["code"], row["version"], row["kind"]) for row in found.rows]


async def all_of(
    fetch: Any, follower: Follower = EVERYTHING, limit: int = 3, after: Cursor = BEGINNING
) -> list[tuple[str, int, str]]:
    """Everything that this follower sees, page by page."""
    found = []
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
    mine = {"submitted_by": "portal"}
    await append(writer, A, status=4, **mine)
    away = {"agency": "G99.02.01", "came_from": "G99.01.01", "department": "P1"}
    await append(writer, A, status=4, note="không cho ai", **away, **mine)
    await append(writer, A, status=5, note="Bổ sung (ví dụ)", **mine)
    return writer


VIEWERS: Sequence[tuple[Follower, list[tuple[str, int]]]] = (
    (Follower("x", frozenset({"G99.01.01"})), [(A, 1), (A, 2), (A, 3), (A, 4)]),  # the origin sees all of its own
    (Follower("x", frozenset({"G99.02.01"})), [(B, 1), (A, 3), (A, 4)]),
    (Follower("x", frozenset({"G99.02.01"}), bulk=False), [(A, 3), (A, 4)]),
    (Follower("x", frozenset({"G99.03"})), []),
    (Follower("portal", frozenset({"G99.03"})), [(A, 1), (A, 2), (A, 3), (A, 4)]),
    (Follower("portal", frozenset({"G99.02.01"}), mine=True), [(A, 1), (A, 2), (A, 3), (A, 4)]),
    (Follower("portal", frozenset({"G99.02.01"})), [(A, 1), (B, 1), (A, 2), (A, 3), (A, 4)]),
    (Follower("portal", frozenset({"G99.02.01"}), narrowed=True), [(B, 1), (A, 3), (A, 4)]),
    (Follower("portal", frozenset({"G99.02.01"}), mine=True, narrowed=True), [(A, 3), (A, 4)]),
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


LATER = utc("2026-12-24T10:00:00")
HERE, THERE, PORTAL = "G99.01.01", "G99.02.01", "portal"
STEPS: Sequence[tuple[str, dict[str, Any]]] = (
    ("moved", {"status": 4, "note": "không cho ai", "actor": "một người", "department": "P1"}),
    ("noted", {"step_status": 5, "flags": ["late"], "note": "muộn"}),
    ("moved", {"agency": THERE, "came_from": HERE, "detail": '{"items":["không cho ai"]}'}),
    ("number_bound", {"official_number": "999.2026.1"}),
    ("corrected", {"service": "S.005", "person": bytes(32), "detail": '{"applicant":["name"]}'}),
    ("key_reissued", {"key_serial": 1}),
    ("owner_changed", {"owner": "bank"}),
    ("due_changed", {"due_at": LATER, "reappointments": 1, "note": "lý do"}),
    ("led_by", {"agency": THERE}),
    ("task_opened", {"task": 1, "detail": '{"work":"thẩm định"}'}),
    ("task_ended", {"task": 1, "detail": '{"state":"done"}'}),
    ("paper_issued", {"paper": bytes(32)}),
    ("moved", {"status": 10, "outcome": "granted", **dict.fromkeys(("finished_at", "returned_at"), LATER)}),
    ("removed", {}),
)
"""What becomes of a dossier, each kind of event once, with what no partner may read."""


async def lived(connection: Any) -> list[Any]:
    """A dossier of the portal's with an event of each kind; the rows of its events."""
    at = utc("2026-11-30T01:30:00")
    await receive(connection, A, submitted_at=at, submitted_by=PORTAL, due_at=utc("2026-12-10T10:00:00"))
    for kind, fields in STEPS:
        await append(connection, A, kind, submitted_by=PORTAL, occurred_at=at, **fields)
    return list(await connection.fetch("SELECT *, xid::text AS tx FROM event ORDER BY version"))


BY_VERSION: Sequence[tuple[str, str, dict[str, Any]]] = (
    # kind, who sees it, what is special: what does not change is in the test
    ("received", "G99.01.01 portal", {"agency": HERE, "service": "S.004"}),
    ("moved", "G99.01.01 portal", {"agency": HERE, "status": "processing", "status_number": 4}),
    ("noted", "G99.01.01 portal", {"agency": HERE, "flags": ["late"]}),
    ("moved", "G99.01.01 G99.02.01 portal", {"came_from": HERE}),
    ("number_bound", "G99.01.01 G99.02.01 portal", {"official_number": "999.2026.1"}),
    ("corrected", "G99.01.01 G99.02.01 portal", {}),
    ("key_reissued", "", {}),
    ("owner_changed", "", {}),
    ("due_changed", "G99.01.01 G99.02.01 portal", {"due_at": "2026-12-24T17:00:00+07:00"}),
    ("led_by", "G99.01.01 G99.02.01 portal", {}),
    ("task_opened", "G99.01.01 G99.02.01 portal", {}),
    ("task_ended", "G99.01.01 G99.02.01 portal", {}),
    ("paper_issued", "", {}),
    ("moved", "G99.01.01 G99.02.01 portal", {"status": "returned", "status_number": 10, "final": True}),
    ("removed", "G99.01.01 G99.02.01 portal", {}),
)


@pytest.mark.parametrize(
    ("viewer", "follower"),
    [
        (HERE, Follower("x", frozenset({HERE}))),
        (THERE, Follower("x", frozenset({THERE}))),
        (PORTAL, Follower(PORTAL, frozenset({"G99.03"}), mine=True)),
        ("nobody", Follower("x", frozenset({"G99.03"}))),
    ],
)
async def test_of_each_kind_partners_read_exactly_this(writer: Any, viewer: str, follower: Follower) -> None:
    rows = await lived(writer)
    found = await page(writer.fetch, follower, BEGINNING, 100)
    answer = msgspec.json.decode(msgspec.json.encode(found.told("urn:hoso24:test")))
    usual: dict[str, Any] = {
        "epoch": 1,
        "status": "received",
        "status_number": 2,
        "final": False,
        "occurred_at": "2026-11-30T08:30:00+07:00",
        "agency": THERE,
        "came_from": None,
        "origin": HERE,
        "service": "S.005",
        "due_at": "2026-12-10T17:00:00+07:00",
        "official_number": None,
        "flags": [],
        "bulk": False,
    }
    expected = []
    for row, (kind, seen_by, special) in zip(rows, BY_VERSION, strict=True):
        assert row["kind"] == kind
        for name in ("status", "status_number", "final", "due_at"):  # they stay until another event changes them
            usual[name] = special.get(name, usual[name])
        if viewer in seen_by.split():
            expected.append(
                {
                    "specversion": "1.0",
                    "id": f"1-{row['tx']}-{row['seq']}",
                    "source": "urn:hoso24:test",
                    "type": f"vn.hoso24.dossier.{kind}",
                    "subject": A,
                    "time": local(row["recorded_at"]).isoformat(),
                    "sequence": f"{1:010}{int(row['tx']):019}{row['seq']:019}",
                    "datacontenttype": "application/json",
                    "data": usual | {"version": row["version"]} | special,
                }
            )
    last = rows[-1]
    end = Cursor(1, int(last["tx"]), last["seq"], last["seal"][:6])
    assert answer == {"events": expected, "next": end.text, "caught_up": True}
    assert len(expected) == {HERE: 12, THERE: 9, PORTAL: 12, "nobody": 0}[viewer]


async def test_service_is_told_to_those_with_whom_the_dossier_is_and_not_to_whom_it_left(writer: Any) -> None:
    await receive(writer, A, agency=HERE, origin="G99.03", submitted_by=PORTAL)
    await append(writer, A, agency=THERE, came_from=HERE, submitted_by=PORTAL)
    for follower, service in (
        (Follower("x", frozenset({HERE})), None),
        (Follower("x", frozenset({THERE})), "S.004"),
        (Follower("x", frozenset({"G99.03"})), "S.004"),
        (Follower(PORTAL, frozenset({HERE})), "S.004"),
    ):
        found = await page(writer.fetch, follower, BEGINNING, 100)
        assert found.told("urn:hoso24:test").events[-1].data.service == service
        assert found.told("urn:hoso24:test").events[-1].data.version == 2


async def test_agencies_seen_are_those_below_and_those_that_one_of_them_follows() -> None:
    def agency(code: str, parent: str | None, **more: Any) -> Agency:
        return Agency(code, parent, code, code, date(2010, 1, 1), **more)

    ended = {"valid_to": date(2025, 7, 1), "successor": "c2"}
    listed = (
        *(agency("root", None), agency("p1", "root"), agency("p2", "root"), agency("c1", "p1"), agency("c2", "p2")),
        *(agency("old", "p1", **ended), agency("x1", "p1", sandbox=True), agency("x2", "x1", sandbox=True)),
    )
    catalogue = Catalogue({each.code: each for each in listed})
    today = date(2026, 12, 1)
    assert agencies_seen(catalogue, "p1", today, sandbox=False) == {"p1", "c1", "old"}
    assert agencies_seen(catalogue, "p2", today, sandbox=False) == {"p2", "c2", "old"}
    assert agencies_seen(catalogue, "p2", date(2025, 6, 30), sandbox=False) == {"p2", "c2"}
    assert agencies_seen(catalogue, "x1", today, sandbox=True) == {"x1", "x2"}
    assert agencies_seen(catalogue, "x1", today, sandbox=False) == set()  # a client at odds with its agency
    assert agencies_seen(catalogue, "p1", today, sandbox=True) == set()


async def test_process_that_delivers_webhooks_reads_the_same_pages(database: Database, writer: Any) -> None:
    await lived(writer)
    webhooks = await asyncpg.connect(database.url("hoso24_webhooks"))
    try:
        for follower in (Follower("x", frozenset({HERE})), Follower(PORTAL, frozenset())):
            ours = await page(writer.fetch, follower, BEGINNING, 5)
            theirs = await page(webhooks.fetch, follower, BEGINNING, 5)
            assert ours.told("urn:hoso24:test") == theirs.told("urn:hoso24:test")
        end = await newest(webhooks.fetch)
        assert await page(webhooks.fetch, EVERYTHING, end, 5) == changes.Page([], EVERYTHING, end, caught_up=True)
    finally:
        await webhooks.close()


# -- in which order --------------------------------------------------------------------------------------------------


async def test_event_whose_transaction_ends_late_is_not_passed_by(database: Database, writer: Any) -> None:
    """The sequence is no commit order: what was written first may be seen last."""
    late = await asyncpg.connect(database.writer_url)
    transaction = late.transaction()
    await transaction.start()
    await receive(late, A)
    await receive(writer, B, agency=THERE, origin=THERE)
    found = await page(writer.fetch, EVERYTHING, BEGINNING, 100)
    assert (told(found), found.next, found.caught_up) == ([], BEGINNING, True)
    assert await newest(writer.fetch) == BEGINNING
    await transaction.commit()
    await late.close()
    assert [code for code, _, _ in await all_of(writer.fetch)] == [A, B]


async def test_each_event_comes_once_however_writers_overlap(database: Database) -> None:
    chance = random.Random(7)
    reader, *idle = [await asyncpg.connect(database.writer_url) for _ in range(7)]
    busy: list[tuple[str, Any, Any]] = []
    written: list[str] = []
    committed: list[str] = []
    read: list[str] = []
    after = BEGINNING
    for n in range(80):
        if busy and (not idle or n >= 60 or chance.random() < 0.4):
            code, connection, transaction = busy.pop(chance.randrange(len(busy)))
            await transaction.commit()
            committed.append(code)
            idle.append(connection)
        elif n < 60:
            connection = idle.pop()
            transaction = connection.transaction()
            await transaction.start()
            written.append(f"G99.01.01-261130-{n:04}")
            await receive(connection, written[-1], bulk=chance.random() < 0.3)
            busy.append((written[-1], connection, transaction))
        found = await page(reader.fetch, EVERYTHING, after, 3)
        read += [code for code, _, _ in told(found)]
        after = found.next
    assert not busy
    read += [code for code, _, _ in await all_of(reader.fetch, after=after)]
    assert read == written
    assert sorted(committed) == written != committed
    for connection in (reader, *idle):
        await connection.close()


async def test_page_looks_at_so_many_rows_and_moves_on(writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LOOKED_AT", 4)
    for n in range(11):
        await receive(writer, f"G99.02.01-261130-{n:04}", agency=THERE, origin=THERE, bulk=n % 3 == 0)
    await receive(writer, A)
    here, after = Follower("x", frozenset({HERE})), BEGINNING
    pages: list[changes.Page] = []
    while not pages or not pages[-1].caught_up:
        pages.append(await page(writer.fetch, here, after, 2))
        after = pages[-1].next
    assert [told(each) for each in pages] == [[], [], [(A, 1, "received")], []]
    assert [each.caught_up for each in pages] == [False, False, False, True]
    assert pages[-1].next == pages[-2].next
    assert len(await all_of(writer.fetch, limit=3)) == 12
    assert len(await all_of(writer.fetch, Follower("x", frozenset({THERE}), bulk=False))) == 7


# -- cursors and the log ---------------------------------------------------------------------------------------------


async def test_cursor_whose_event_is_not_there_waits_until_an_operator_says_so(writer: Any, owner: Any) -> None:
    await receive(writer, A)
    await append(writer, A, status=4)
    (first, second) = [cursor_of(row) for row in (await page(writer.fetch, EVERYTHING, BEGINNING, 9)).rows]
    lost = [
        second._replace(seal=b"other."),  # another event has its place
        second._replace(xid=second.xid + 1000),  # the future, or lost
        second._replace(seq=second.seq + 1),
        second._replace(epoch=2),  # an epoch that a restore took back
    ]
    for cursor in lost:
        with pytest.raises(FeedHalted):
            await page(writer.fetch, EVERYTHING, cursor, 9)
    at = await owner.fetchval("SELECT recorded_at FROM event WHERE version = 1")
    await owner.execute("INSERT INTO epoch VALUES (2, now(), 'restored', $1::xid8, $2, $3)", first.xid, first.seq, at)
    for cursor in lost[:3]:
        with pytest.raises(FeedRewound) as rewound:
            await page(writer.fetch, EVERYTHING, cursor, 9)
        assert rewound.value.members == {"resume": first.text, "lost_since": local(at).isoformat()}
    with pytest.raises(FeedHalted):
        await page(writer.fetch, EVERYTHING, lost[3], 9)
    assert told(await page(writer.fetch, EVERYTHING, first, 9)) == [(A, 2, "moved")]
    assert told(await page(writer.fetch, EVERYTHING, second, 9)) == []  # who has it may go on


async def test_resume_is_of_the_epoch_that_went_back_furthest(writer: Any, owner: Any) -> None:
    for version in range(4):
        await (append(writer, A, status=4) if version else receive(writer, A))
    first, second, *_ = [cursor_of(row) for row in (await page(writer.fetch, EVERYTHING, BEGINNING, 9)).rows]
    times = [row["recorded_at"] for row in await owner.fetch("SELECT recorded_at FROM event ORDER BY version")]
    lost = second._replace(seal=b"other.")
    restored = "INSERT INTO epoch VALUES ($1, now(), 'restored', $2::xid8, $3, $4)"
    await owner.execute(restored, 2, second.xid, second.seq, times[1])
    await owner.execute(restored, 3, first.xid, first.seq, times[0])
    await owner.execute("INSERT INTO epoch VALUES (4, now(), 'nothing was lost')")
    with pytest.raises(FeedRewound) as rewound:
        await page(writer.fetch, EVERYTHING, lost, 9)
    assert rewound.value.members["resume"] == first.text
    await owner.execute("UPDATE epoch SET resume_xid = NULL, resume_seq = NULL WHERE number = 3")
    with pytest.raises(FeedRewound) as rewound:
        await page(writer.fetch, EVERYTHING, lost, 9)
    assert rewound.value.members["resume"] == BEGINNING.text  # nothing was recorded before
    await owner.execute("UPDATE epoch SET lost_since = NULL")
    with pytest.raises(FeedRewound) as rewound:
        await page(writer.fetch, EVERYTHING, lost, 9)
    assert rewound.value.members == {"resume": BEGINNING.text, "lost_since": None}


async def test_new_epoch_is_shown_when_nobody_can_write_in_the_one_before(database: Database, owner: Any) -> None:
    """A transaction that read the epoch before may get a later id than events of the new epoch."""
    slow, quick = [await asyncpg.connect(database.writer_url) for _ in "ab"]
    async with slow.transaction():
        before = dict(await slow.fetchrow("SELECT now() AS now, max(number) AS epoch FROM epoch"))
        await owner.execute("INSERT INTO epoch VALUES (2, now(), 'restored')")
        await receive(quick, B, agency=THERE, origin=THERE)
        assert told(await page(quick.fetch, EVERYTHING, BEGINNING, 9)) == []
        await receive(slow, A)
    await owner.execute("UPDATE event SET epoch = $1 WHERE code = $2", before["epoch"], A)
    assert told(await page(quick.fetch, EVERYTHING, BEGINNING, 9)) == [(A, 1, "received")]
    await owner.execute("UPDATE epoch SET started_at = now() - interval '12 s' WHERE number = 2")
    assert [code for code, _, _ in await all_of(quick.fetch)] == [A, B]
    await slow.close()
    await quick.close()


async def test_events_of_a_dump_are_shown_though_their_ids_are_from_elsewhere(writer: Any, owner: Any) -> None:
    await receive(writer, A)
    await owner.execute("UPDATE event SET xid = (xid::text::bigint + 1000000)::text::xid8")
    await owner.execute("INSERT INTO epoch VALUES (2, now() - interval '1 min', 'made from a dump')")
    await receive(writer, B, agency=THERE, origin=THERE)
    assert [code for code, _, _ in await all_of(writer.fetch)] == [A, B]


async def test_begin_at_a_moment(writer: Any, owner: Any) -> None:
    assert await since(writer.fetch, utc("2026-01-01T00:00:00")) == BEGINNING
    codes = [f"G99.01.01-261130-000{n}" for n in range(5)]
    for code in codes:
        await receive(writer, code)
    times = [
        *("2026-03-01T00:00:00", "2026-03-01T00:59:59", "2026-03-01T00:59:58"),  # the third committed after the second
        *("2026-05-01T10:00:00", "2026-05-01T09:59:55"),
    ]
    for code, at in zip(codes, times, strict=True):
        await owner.execute("UPDATE event SET recorded_at = $2 WHERE code = $1", code, utc(at))
    for moment, first in (
        ("2025-01-01T00:00:00", 0),
        ("2026-03-01T00:00:00", 0),
        ("2026-03-01T00:00:01", 1),
        ("2026-03-01T00:59:59", 1),
        ("2026-03-02T00:00:00", 3),
        ("2026-05-01T08:59:57", 3),  # an hour later begins the next look, and the first event is in that one
        ("2026-05-01T10:00:01", 5),
        ("2099-01-01T00:00:00", 5),
    ):
        after = await since(writer.fetch, utc(moment))
        found = await page(writer.fetch, EVERYTHING, after, 9)
        assert [code for code, _, _ in told(found)] == codes[first:], moment
    assert await since(writer.fetch, utc("2026-05-02T00:00:00")) == await newest(writer.fetch)


# -- how PostgreSQL does it ------------------------------------------------------------------------------------------

MANY = """
INSERT INTO event (epoch, code, version, kind, bulk, occurred_at, recorded_at, source, status, agency, origin,
                   service, service_case, channel, submitted_at, person, salt, seal)
SELECT 1, 'G99.01.01-261130-' || n, 1, 'received', n % 10 = 0, now(), now(), 'test', 2,
       'G99.0' || n % 3, 'G99.0' || n % 3, 'S.004', 'default', 'direct', now(), decode(repeat('00', 32), 'hex'),
       decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex')
  FROM generate_series(1, 60000) AS n
"""


async def test_log_is_read_by_its_indexes_in_their_order(writer: Any, owner: Any) -> None:
    await owner.execute(MANY)
    await owner.execute("ANALYZE event")
    here = "(1, '5', 0"
    looked = f"{here}, '1000000000', 1, 20000, true"
    asked = (
        (changes.CHECKED, here),
        (changes.PAGE, f"{looked}, ARRAY['moved'], 'x', true, true, ARRAY['G99.01'], 1000"),
        (changes.LAST_LOOKED, looked),
        (changes.TAIL, looked),
        (changes.BEFORE, here),
        (changes.NEWEST, ""),
    )
    for n, (sql, arguments) in enumerate(asked):
        await writer.execute(f"PREPARE s{n} AS {sql}")
        explained = await writer.fetch(f"EXPLAIN EXECUTE s{n} {arguments and arguments + ')'}")
        plan = "\n".join(row[0] for row in explained)
        assert "using event_in_commit_order" in plan, plan
        assert "using event_bulk_in_commit_order" in plan, plan
        assert "Seq Scan on event" not in plan, plan
        sorted_by = [line.strip() for line in plan.splitlines() if "Sort Key" in line]
        assert set(sorted_by) <= {
            "Sort Key: event.epoch, event.xid, event.seq",
            "Sort Key: event.epoch DESC, event.xid DESC, event.seq DESC",
            "Sort Key: (row_number() OVER w1) DESC",
        }, plan
        assert sum(line.strip().startswith("->  Sort") for line in plan.splitlines()) <= (sql == changes.LAST_LOOKED)
