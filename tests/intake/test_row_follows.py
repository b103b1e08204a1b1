"""The trigger that makes a dossier's row follow its log: it agrees with the fold, and refuses what does not follow."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.dossier import public_step, timeline
from intake.books.fold import AFTER_IMAGE, FOLDED_COLUMNS, NOT_IN_TIMELINE, differences, folded
from intake.books.seal import HASHED_COLUMNS, ROW_COLUMNS, EventRecord, SealKeys, jsonb_text, new_salt
from lookup.clock import VIETNAM
from lookup.status import Status
from tests.conftest import SEAL_KEYS, Database

START = datetime(2026, 11, 16, 1, tzinfo=UTC)
AGENCIES = ("G99.01", "G99.01.01", "G99.02")
KEYS = SealKeys.from_text(SEAL_KEYS)
_codes = (f"G99.01-261116-{n:04d}" for n in itertools.count(1))

WITH_PERSONS = (*FOLDED_COLUMNS, "applicant_name", "subject", "retention_class")
STORED = f"SELECT {', '.join(WITH_PERSONS)} FROM dossier WHERE code = $1"


# -- events ------------------------------------------------------------------------------------------------------------


def reception(code: str, **special: Any) -> EventRecord:
    """The first event of a dossier."""
    told: dict[str, Any] = {"epoch": 1, "code": code, "version": 1, "kind": "received", "source": "client-a"}
    told |= {"occurred_at": START, "recorded_at": START, "submitted_by": "client-a", "person": bytes(32)}
    told |= {"status": 2, "agency": "G99.01", "origin": "G99.01", "department": "Một cửa", "pauses": "[]"}
    told |= {"received_at": START, "due_at": START + timedelta(days=14), "calendar": "vn 2026.1"}
    told |= {"service": "S.001", "service_case": "default", "channel": "direct", "submitted_at": START}
    return EventRecord(**(told | special))


def next_event(before: EventRecord, kind: str, **special: Any) -> EventRecord:
    """An event that follows this one; what it does not name stays as it was."""
    same = {name: getattr(before, name) for name in ("epoch", "code", "source", *AFTER_IMAGE)}
    at = before.occurred_at + timedelta(minutes=5, microseconds=7)
    told = {"version": before.version + 1, "kind": kind, "occurred_at": at, "recorded_at": at}
    return EventRecord(**(same | told | special))


def moves(code: str, count: int) -> list[EventRecord]:
    """A reception and as many moves."""
    events = [reception(code)]
    for _ in range(count):
        events.append(next_event(events[-1], "moved", status=4, department=f"Phòng {len(events)}"))
    return events


def fold_of(events: Iterable[EventRecord]) -> dict[str, Any]:
    return folded([msgspec.structs.asdict(event) | {"erased": None} for event in events])


# -- storing -----------------------------------------------------------------------------------------------------------


async def begin(connection: Any, first: EventRecord) -> None:
    """The row of a dossier, and its first event."""
    row = fold_of([first]) | {"applicant_name": "Nguyễn Văn Mẫu (hư cấu)", "subject": "Mẫu", "retention_class": "20y"}
    row["timeline"] = timeline(public_step(first.occurred_at, Status(first.status), first.agency, first.department))
    await connection.copy_records_to_table(
        "dossier", columns=WITH_PERSONS, records=[[row[name] for name in WITH_PERSONS]]
    )
    await append(connection, [first])


async def append(connection: Any, events: Sequence[EventRecord]) -> None:
    """These events in one statement."""
    await connection.copy_records_to_table(
        "event", columns=ROW_COLUMNS, records=[event.row(new_salt(), KEYS) for event in events]
    )


async def append_all(connection: Any, statements: Iterable[Sequence[EventRecord]]) -> None:
    for events in statements:
        await append(connection, events)


async def row_of(connection: Any, code: str) -> dict[str, Any]:
    return dict(await connection.fetchrow(STORED, code))


async def number_of(connection: Any, code: str) -> tuple[str, int] | None:
    row = await connection.fetchrow("SELECT number, version FROM dossier_number WHERE code = $1", code)
    return None if row is None else tuple(row)


@pytest.fixture
async def rows(writer: Any) -> AsyncIterator[Any]:
    """The writer's connection, in a transaction that is undone."""
    transaction = writer.transaction()
    await transaction.start()
    yield writer
    await transaction.rollback()


# -- it agrees with the fold -------------------------------------------------------------------------------------------

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
LATER = MOMENTS.map(lambda at: START + abs(at - START))
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NUMBERS = (f"{n % 100_000:05d}/2026/{99_901 + n // 100_000}" for n in itertools.count())
PAUSES = st.lists(
    st.fixed_dictionaries({"status": st.integers(5, 8), "since": st.sampled_from(["a", "b"])}), max_size=2
)

IMAGES = st.fixed_dictionaries(
    {
        "status": st.integers(1, 10),
        "agency": st.sampled_from(AGENCIES),
        "origin": st.sampled_from(AGENCIES),
        "owner": st.none() | st.sampled_from(["client-a", "client-b"]),
        "outcome": st.none() | st.sampled_from(["granted", "refused", "partly"]),
        "received_at": st.none() | MOMENTS,
        "due_at": st.none() | LATER,
        "finished_at": MOMENTS,
        "returned_at": MOMENTS,
        "calendar": st.none() | st.sampled_from(["vn 2026.1", "tỉnh 2026.2"]),
        "pauses": st.none() | PAUSES.map(jsonb_text),
        "supplements": st.integers(0, 9),
        "reappointments": st.integers(0, 2),
        "key_serial": st.integers(0, 31),
    }
)
TOLD = st.fixed_dictionaries(
    {
        "occurred_at": MOMENTS,
        "recorded_at": MOMENTS,
        "source_seq": st.none() | st.integers(1, 99),
        "flags": st.none() | st.lists(st.sampled_from([NOT_IN_TIMELINE, "by_import", "late"]), max_size=2),
        "step_status": st.none() | st.integers(1, 10),
        "task": st.none() | st.integers(1, 9),
        "note": st.none() | TEXTS,
        "actor": st.none() | TEXTS,
        "department": st.none() | TEXTS,
        "came_from": st.none() | st.sampled_from(AGENCIES),
    }
)
AGAIN = st.fixed_dictionaries(
    {
        "service": st.none() | st.sampled_from(["S.001", "S.002"]),
        "service_case": st.none() | st.sampled_from(["default", "other"]),
        "channel": st.none() | st.sampled_from(["direct", "online", "postal"]),
        "submitted_at": st.none() | st.just(START) | st.just(START - timedelta(days=2)),
        "person": st.none() | st.just(bytes(32)),
        "official_number": st.none() | st.builds(NUMBERS.__next__),
    }
)
TASKS = st.fixed_dictionaries(
    {"work": TEXTS, "due_at": st.none() | MOMENTS.map(lambda at: at.astimezone(VIETNAM))},
    optional={"agency": st.sampled_from(["G99", "G99.02"])},
)
KINDS = (
    *("moved", "noted", "number_bound", "corrected", "key_reissued", "owner_changed"),
    *("due_changed", "led_by", "task_opened", "task_ended", "paper_issued", "removed"),
)


@st.composite
def histories(draw: st.DrawFn) -> list[EventRecord]:
    """One dossier's events, of any kinds and with any images that the tables take: nothing is to be computed."""
    first = draw(IMAGES) | {"pauses": draw(PAUSES.map(jsonb_text)), "key_serial": 0}
    note = first["status"] in {3, 5, 6, 7, 8} or first["outcome"] == "refused"
    events = [reception("", **first, note="Lý do" if note else None)]
    bound = False
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=12)):
        special = draw(IMAGES) | draw(TOLD)
        if kind == "corrected":
            special |= draw(AGAIN)
        if kind == "number_bound":
            if bound:
                continue
            special["official_number"] = next(NUMBERS)
        if kind == "task_opened" or (kind == "task_ended" and draw(st.booleans())):
            special["detail"] = msgspec.json.encode(draw(TASKS)).decode()
        bound = bound or special.get("official_number") is not None
        events.append(next_event(events[-1], kind, **special))
        if kind == "removed":
            break
    return events


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[list[EventRecord]], list[list[EventRecord]]]:
    """Histories of one to three dossiers, and how their events come: in statements of any size, of several dossiers."""
    every = [
        [msgspec.structs.replace(event, code=code) for event in events]
        for events, code in zip(draw(st.lists(histories(), min_size=1, max_size=3)), _codes, strict=False)
    ]
    waiting = [list(events[1:]) for events in every]
    statements = []
    while any(waiting):
        statement = [each.pop(0) for each in waiting for _ in range(draw(st.integers(0, 4))) if each]
        if statement:
            statements.append(draw(st.permutations(statement)))
    return every, statements


@pytest.mark.servers
def test_row_is_what_the_fold_of_its_events_says(database: Database) -> None:
    kinds: set[str] = set()
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database.writer_url))

        async def agrees(every: list[list[EventRecord]], statements: list[list[EventRecord]]) -> None:
            transaction = connection.transaction()
            await transaction.start()
            try:
                for events in every:
                    await begin(connection, events[0])
                await append_all(connection, statements)
                for events in every:
                    kinds.update(event.kind for event in events)
                    await holds(connection, events)
            finally:
                await transaction.rollback()

        @given(cuts())
        def for_any(case: tuple[list[list[EventRecord]], list[list[EventRecord]]]) -> None:
            runner.run(agrees(*case))

        for_any()
        runner.run(connection.close())
    assert kinds == {"received", *KINDS}


async def holds(connection: Any, events: list[EventRecord]) -> None:
    """The row, its timeline's text and the table of numbers are what these events say."""
    row, fold = await row_of(connection, events[0].code), fold_of(events)
    assert differences(row, fold) == []
    for stored, told in zip(json.loads(row["timeline"]), fold["timeline"], strict=True):
        assert stored.keys() == told.keys()
        for name in told.keys() & {"at", "due_at"}:
            assert stored[name] == (told[name] and told[name].isoformat())
            assert stored[name] is None or stored[name].endswith("+07:00")
    last = next((event.version for event in reversed(events) if event.official_number is not None), 0)
    number = fold["official_number"]
    assert await number_of(connection, events[0].code) == (None if number is None else (number, last))
    kept = None if row["removed"] else ("Nguyễn Văn Mẫu (hư cấu)", "Mẫu")
    assert (row["applicant_name"], row["subject"]) == (kept or (None, None))
    assert row["retention_class"] == "20y"


def test_every_kind_that_the_table_takes_is_tried() -> None:
    from importlib import resources

    log = resources.files("lookup.schema").joinpath("0003_log.sql").read_text("utf-8")
    check = log.partition("CHECK (kind IN (")[2].partition("))")[0]
    assert {word.strip().strip("'") for word in check.split(",")} == {"received", *KINDS}
    assert set(HASHED_COLUMNS) >= set(AFTER_IMAGE)


# -- what does not follow ----------------------------------------------------------------------------------------------


async def test_several_events_of_one_dossier_may_stand_in_one_statement_in_any_order(rows: Any) -> None:
    code = next(_codes)
    events = moves(code, 5)
    await begin(rows, events[0])
    await append(rows, [events[3], events[1], events[2]])
    assert (await row_of(rows, code))["version"] == 4
    await append(rows, events[4:])
    row = await row_of(rows, code)
    assert [step["department"] for step in json.loads(row["timeline"])] == [
        "Một cửa",
        *(f"Phòng {n}" for n in range(1, 6)),
    ]


async def test_events_of_many_dossiers_change_each_row_once(rows: Any) -> None:
    every = [moves(next(_codes), 2) for _ in range(40)]
    for events in every:
        await begin(rows, events[0])
    await append(rows, [event for events in every for event in reversed(events[1:])])
    for events in every:
        await holds(rows, events)


@pytest.mark.parametrize("versions", [[3], [2, 4], [2, 3, 5], [1, 2]])
async def test_event_that_leaves_a_gap_is_refused_with_the_whole_statement(rows: Any, versions: list[int]) -> None:
    events = moves(next(_codes), 5)
    beside = moves(next(_codes), 1)
    if versions[0] == 1:  # no row at all
        versions = versions[1:]
    else:
        await begin(rows, events[0])
    await begin(rows, beside[0])
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        async with rows.transaction():
            await append(rows, [beside[1], *(events[version - 1] for version in versions)])
    assert refused.value.constraint_name == "event_follows_the_version_before"
    assert (await row_of(rows, beside[0].code))["version"] == 1


@pytest.mark.parametrize("together", [True, False])
async def test_version_is_written_once(rows: Any, together: bool) -> None:
    events = moves(next(_codes), 1)
    await begin(rows, events[0])
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await append_all(rows, [[events[1], events[1]]] if together else [[events[1]], [events[1]]])
    assert refused.value.constraint_name == "event_pkey"


async def test_second_of_two_that_append_the_same_version_at_once_is_refused(database: Database, writer: Any) -> None:
    events = moves(next(_codes), 1)
    await begin(writer, events[0])
    other = await asyncpg.connect(database.writer_url)
    transaction = writer.transaction()
    await transaction.start()
    await append(writer, events[1:])
    second = asyncio.create_task(append(other, events[1:]))
    await transaction.commit()
    with pytest.raises(asyncpg.UniqueViolationError):
        await second
    assert (await row_of(writer, events[0].code))["version"] == 2
    await other.close()


@pytest.mark.parametrize("together", [True, False])
async def test_nothing_follows_a_removal(rows: Any, together: bool) -> None:
    first = reception(next(_codes))
    removal = next_event(first, "removed")
    after = next_event(removal, "moved", status=4)
    await begin(rows, first)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await append_all(rows, [[removal, after]] if together else [[removal], [after]])
    assert refused.value.constraint_name == "event_follows_the_version_before"


async def test_bulk_events_are_passed_over(rows: Any) -> None:
    """An import writes the row as it is after all of them."""
    events = moves(next(_codes), 3)
    await begin(rows, events[0])
    before = await row_of(rows, events[0].code)
    await append(rows, [msgspec.structs.replace(event, bulk=True) for event in events[1:]])
    assert await row_of(rows, events[0].code) == before


# -- numbers -----------------------------------------------------------------------------------------------------------


def bound(before: EventRecord, number: str) -> EventRecord:
    return next_event(before, "number_bound", official_number=number)


async def test_number_is_bound_corrected_and_gone_with_the_dossier(rows: Any) -> None:
    first = reception(next(_codes))
    second = bound(first, "01234/2026/99901")
    third = next_event(second, "corrected", official_number="01235/2026/99901")
    fourth = next_event(third, "corrected", service="S.002")
    fifth = next_event(fourth, "removed")
    await begin(rows, first)
    for event, number in zip(
        (second, third, fourth, fifth),
        (("01234/2026/99901", 2), ("01235/2026/99901", 3), ("01235/2026/99901", 3), None),
        strict=True,
    ):
        await append(rows, [event])
        assert await number_of(rows, first.code) == number
        assert (await row_of(rows, first.code))["official_number"] == (number and number[0])


async def test_number_and_removal_in_one_statement_leave_no_number(rows: Any) -> None:
    first = reception(next(_codes))
    second = bound(first, "01234/2026/99901")
    await begin(rows, first)
    await append(rows, [second, next_event(second, "removed")])
    assert await number_of(rows, first.code) is None
    assert (await row_of(rows, first.code))["removed"]


async def test_numbers_of_two_dossiers_may_be_exchanged_in_one_statement(rows: Any) -> None:
    firsts = [reception(next(_codes)) for _ in range(2)]
    numbers = ["01234/2026/99901", "01235/2026/99901"]
    seconds = [bound(first, number) for first, number in zip(firsts, numbers, strict=True)]
    for first, second in zip(firsts, seconds, strict=True):
        await begin(rows, first)
        await append(rows, [second])
    thirds = [
        next_event(second, "corrected", official_number=number)
        for second, number in zip(seconds, reversed(numbers), strict=True)
    ]
    await append(rows, thirds)
    assert [(await number_of(rows, first.code) or ("",))[0] for first in firsts] == numbers[::-1]


@pytest.mark.parametrize("kind", ["number_bound", "corrected"])
async def test_number_that_is_taken_is_refused(rows: Any, kind: str) -> None:
    firsts = [reception(next(_codes)) for _ in range(2)]
    for first in firsts:
        await begin(rows, first)
    await append(rows, [bound(firsts[0], "01234/2026/99901")])
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await append(rows, [next_event(firsts[1], kind, official_number="01234/2026/99901")])
    assert refused.value.constraint_name == "dossier_number_pkey"


async def test_second_number_of_a_dossier_is_a_correction(rows: Any) -> None:
    first = reception(next(_codes))
    second = bound(first, "01234/2026/99901")
    await begin(rows, first)
    await append(rows, [second])
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await append(rows, [bound(second, "01235/2026/99901")])
    assert refused.value.constraint_name == "dossier_has_one_official_number"


async def test_number_that_is_the_code_of_a_dossier_is_refused(rows: Any) -> None:
    other, first = reception("01234/2026/99901"), reception(next(_codes))
    await begin(rows, other)
    await begin(rows, first)
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await append(rows, [bound(first, other.code)])
    assert refused.value.constraint_name == "official_number_is_no_dossiers_code"
    assert other.code in str(refused.value)


# -- what it costs -----------------------------------------------------------------------------------------------------

FILL = """
INSERT INTO dossier (code, version, status, agency, origin, service, channel, submitted_at, timeline)
SELECT 'G99.01-261101-' || n, 1, 2, 'G99.01', 'G99.01', 'S.001', 'direct', '2026-11-16', '[]'
  FROM generate_series(1000000, 1000000 + $1 - 1) AS n
"""
# What this session has not reported yet, which is all since its last report.
SCANS = """
SELECT sum(seq_scan)::integer AS whole, sum(idx_scan)::integer AS by_index
  FROM pg_stat_xact_user_tables
 WHERE schemaname = 'hoso24' AND relname ~ '^dossier_'
"""


@pytest.mark.parametrize("analysed", [True, False])
@pytest.mark.parametrize("count", [1_000, 100_000])
async def test_each_event_costs_one_look_up_in_one_partition_however_many_dossiers_there_are(
    database: Database, count: int, analysed: bool
) -> None:
    """Custom and generic plans, of one event and of many."""
    connection = await asyncpg.connect(database.admin_url.rpartition("/")[0] + f"/{database.name}")
    await connection.execute("SET search_path = hoso24; SET session_replication_role = replica")  # no foreign keys
    await connection.execute(FILL.replace("$1", str(count)))
    await connection.execute("RESET session_replication_role")
    if analysed:
        await connection.execute("ANALYZE dossier, event")
    codes = [f"G99.01-261101-{1_000_000 + n}" for n in range(0, count, count // 250)]
    singly, together = codes[:20], codes[20:220]
    for chunk in [*([code] for code in singly), together, together[:40]]:
        events = [next_event(reception(code), "moved", status=4) for code in chunk]
        if chunk == together[:40]:
            events = [msgspec.structs.replace(event, version=3, kind="key_reissued") for event in events]
        async with connection.transaction():
            before = await connection.fetchrow(SCANS)
            await append(connection, events)
            after = await connection.fetchrow(SCANS)
        assert (after["whole"] - before["whole"], after["by_index"] - before["by_index"]) == (0, len(chunk))
    await connection.close()
