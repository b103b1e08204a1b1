"""Counting the public figures: what each event adds and takes away, beside an oracle that reads the whole log."""

import asyncio
import random
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from intake.figures.counting import count
from lookup.clock import VIETNAM
from tests import books
from tests.conftest import Database

pytestmark = pytest.mark.servers

AGENCIES = ("G99.01.01", "G99.01.02")
SERVICES = ("S.004", "S.001")
CHANNELS = ("direct", "online", "postal")
STOCKS = ("in_process", "overdue", "paused")
START = datetime(2026, 1, 28, 9, tzinfo=VIETNAM)


@pytest.fixture
async def figures(database: Database) -> Any:
    connection = await asyncpg.connect(database.url("hoso24_figures"))
    yield connection
    await connection.close()


async def shown(connection: Any) -> dict[tuple[str, str, date, str, str], int]:
    rows = await connection.fetch("SELECT agency, service, month, channel, measure, n FROM figure WHERE n <> 0")
    return {tuple(row)[:5]: row["n"] for row in rows}


async def flows(connection: Any) -> dict[tuple[str, str, date, str, str], int]:
    return {key: n for key, n in (await shown(connection)).items() if key[4] not in STOCKS and key[1]}


async def of_agencies(connection: Any) -> dict[tuple[str, date, str, str], int]:
    """The figures of all services of an agency."""
    told = await shown(connection)
    return {
        (agency, month, channel, measure): n
        for (agency, service, month, channel, measure), n in told.items()
        if agency and not service and measure not in STOCKS
    }


def added_up(flows: dict[tuple[str, str, date, str, str], int]) -> dict[tuple[str, date, str, str], int]:
    found: Counter[tuple[str, date, str, str]] = Counter()
    for (agency, _, month, channel, measure), n in flows.items():
        found[agency, month, channel, measure] += n
    return dict(found)


def month(at: datetime) -> date:
    return at.astimezone(VIETNAM).date().replace(day=1)


async def told_by_the_log(owner: Any) -> dict[tuple[str, str, date, str, str], int]:
    """The flows as somebody would count them who reads one dossier after the other."""
    found: Counter[tuple[str, str, date, str, str]] = Counter()
    by_code: dict[str, list[Any]] = {}
    for row in await owner.fetch("SELECT * FROM event ORDER BY code, version"):
        by_code.setdefault(row["code"], []).append(row)
    for log in by_code.values():
        last = log[-1]
        said = next(each for each in reversed(log) if each["service"] is not None)
        what = (last["origin"], said["service"], said["channel"])

        def add(at: datetime, measure: str, what: tuple[str, str, str] = what) -> None:
            found[what[0], what[1], month(at), what[2], measure] += 1

        add(said["submitted_at"], "received")
        moved = [each for each in log if each["kind"] in ("received", "moved")]
        if last["status"] in (9, 10) and last["finished_at"]:
            ended, due = last["finished_at"].astimezone(VIETNAM).date(), last["due_at"]
            if due is None:
                add(last["finished_at"], "undated")
            else:
                due = due.astimezone(VIETNAM).date()
                add(last["finished_at"], "early" if ended < due else "on_time" if ended == due else "late")
        if last["status"] in (3, 7):
            add(max(each["occurred_at"] for each in moved), "refused" if last["status"] == 3 else "withdrawn")
        for each in log:
            if each["kind"] == "moved" and each["status"] == 5:
                add(each["occurred_at"], "supplement")
            if each["kind"] == "due_changed":
                add(each["occurred_at"], "put_off")
    return dict(found)


class Office:
    """Dossiers that come and go at random, written as the intake writes them."""

    def __init__(self, writer: Any, chance: random.Random) -> None:
        self.writer, self.chance, self.codes = writer, chance, list[str]()
        self.now = START

    async def something_happens(self) -> None:
        self.now += timedelta(hours=self.chance.randrange(1, 60))
        if not self.codes or self.chance.random() < 0.3:
            await self.receive()
            return
        code = self.chance.choice(self.codes)
        kind = self.chance.choice(["moved"] * 6 + ["corrected", "due_changed", "led_by", "noted"])
        fields: dict[str, Any] = {"occurred_at": self.now, "came_from": AGENCIES[0]}
        if kind == "moved":
            status = self.chance.choice([3, 4, 5, 7, 8, 9, 9, 9, 10])
            ended = self.now - timedelta(days=self.chance.randrange(40))
            fields |= {"status": status, "finished_at": ended if status in (9, 10) else None}
            fields |= {"returned_at": self.now if status == 10 else None}
        elif kind == "corrected":
            fields |= {"service": self.chance.choice(SERVICES), "service_case": "default", "person": b"p" * 32}
            fields |= {"channel": self.chance.choice(CHANNELS), "submitted_at": self.now - timedelta(days=70)}
        elif kind == "due_changed":
            fields |= {"due_at": self.now + timedelta(days=self.chance.randrange(30))}
        await books.append(self.writer, code, kind, **fields)

    async def receive(self) -> None:
        code = f"{AGENCIES[0]}-260128-{len(self.codes) + 1:04}"
        await books.receive(
            self.writer,
            code,
            bulk=self.chance.random() < 0.3,
            submitted_at=self.now,
            agency=self.chance.choice(AGENCIES),
            origin=self.chance.choice(AGENCIES),
            service=self.chance.choice(SERVICES),
            channel=self.chance.choice(CHANNELS),
            due_at=self.chance.choice([None, self.now + timedelta(days=self.chance.randrange(1, 60))]),
        )
        self.codes.append(code)


@pytest.mark.parametrize("seed", range(6))
async def test_flows_are_those_of_the_log_however_often_they_are_counted(
    writer: Any, owner: Any, figures: Any, seed: int
) -> None:
    chance = random.Random(seed)
    office = Office(writer, chance)
    for _ in range(12):
        for _ in range(chance.randrange(1, 12)):
            await office.something_happens()
        await count(figures)
        assert await flows(figures) == await told_by_the_log(owner)
        assert await of_agencies(figures) == added_up(await flows(figures))
    assert (await count(figures)).changed == 0
    before = await flows(figures)
    await count(figures, rebuild=True)
    assert await flows(figures) == before


async def test_what_an_open_transaction_writes_is_counted_after_it_has_ended(
    writer: Any, owner: Any, figures: Any, database: Database
) -> None:
    other = await asyncpg.connect(database.writer_url)
    transaction = other.transaction()
    await transaction.start()
    await books.receive(other, "G99.01.01-260128-0001", submitted_at=START)
    await books.receive(writer, "G99.01.01-260128-0002", submitted_at=START)
    await count(figures)
    assert await flows(figures) == {}  # the second one is behind the first
    await transaction.commit()
    await other.close()
    await count(figures)
    assert await flows(figures) == await told_by_the_log(owner) != {}


async def test_two_runs_at_once_count_once(writer: Any, owner: Any, figures: Any, database: Database) -> None:
    for n in range(1, 6):
        await books.receive(writer, f"G99.01.01-260128-{n:04}", submitted_at=START)
    others = [await asyncpg.connect(database.url("hoso24_figures")) for _ in range(3)]
    await asyncio.gather(*(count(each) for each in (figures, *others)))
    for each in others:
        await each.close()
    assert await flows(figures) == await told_by_the_log(owner)


async def test_run_that_is_cut_off_leaves_everything_as_it_was(
    writer: Any, owner: Any, figures: Any, database: Database
) -> None:
    await books.receive(writer, "G99.01.01-260128-0001", submitted_at=START)
    await count(figures)
    await books.append(writer, "G99.01.01-260128-0001", status=4)
    await books.receive(writer, "G99.01.01-260128-0002", submitted_at=START)

    class CutOff:
        """Loses its connection before the cursor is advanced."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        async def execute(self, sql: str, *arguments: object) -> str:
            if "UPDATE figure_cursor" in sql:
                self._connection.terminate()
            return str(await self._connection.execute(sql, *arguments))

    before = await shown(figures)
    doomed = await asyncpg.connect(database.url("hoso24_figures"))
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await count(CutOff(doomed))
    assert await shown(figures) == before
    await count(figures)
    assert await flows(figures) == await told_by_the_log(owner)


async def test_stocks_are_counted_by_the_first_run_of_a_day(writer: Any, owner: Any, figures: Any) -> None:
    assert (await count(figures)).stocks
    yesterday = datetime.now(VIETNAM).replace(hour=12) - timedelta(days=1)
    dossiers: list[dict[str, Any]] = [
        {"status": 4, "due_at": yesterday + timedelta(hours=1)},
        {"status": 4, "due_at": yesterday + timedelta(days=9)},
        {"status": 5},
        {"status": 9, "finished_at": yesterday + timedelta(hours=2)},
    ]
    for n, fields in enumerate(dossiers, 1):
        await books.receive(writer, f"G99.01.01-260128-{n:04}", submitted_at=yesterday - timedelta(days=3), **fields)
    assert not (await count(figures)).stocks
    run = await count(figures, stocks=True)
    stocks = {key[4]: n for key, n in (await shown(figures)).items() if key[4] in STOCKS and key[1]}
    assert stocks == {key[4]: n for key, n in (await shown(figures)).items() if key[4] in STOCKS and not key[1]}
    assert (run.stocks, stocks) == (True, {"in_process": 2, "overdue": 1, "paused": 1})
    await owner.execute("UPDATE figure_cursor SET stocks_on = stocks_on - 1")
    await books.append(writer, "G99.01.01-260128-0003", status=4)
    assert (await count(figures)).stocks
    stocks = {key[4]: n for key, n in (await shown(figures)).items() if key[4] in STOCKS}
    assert stocks == {"in_process": 3, "overdue": 1}


async def test_sandbox_does_not_count(writer: Any, owner: Any, figures: Any) -> None:
    await owner.execute("UPDATE agency SET sandbox = true WHERE code = 'G99.01.02'")
    await books.receive(writer, "G99.01.01-260128-0001", submitted_at=START, origin="G99.01.02")
    await count(figures, stocks=True)
    assert await shown(figures) == {}


async def test_ratings_are_added_up_by_month_and_language(owner: Any, figures: Any) -> None:
    rated = [("2026-01-30", "vi", 4, 3, 5), ("2026-01-31", "vi", 9, 3, 2), ("2026-02-01", "en", 4, 1, 1)]
    for day, *rest in rated:
        await owner.execute("INSERT INTO rating VALUES ($1, $2, $3, $4, $5)", date.fromisoformat(str(day)), *rest)
    for _ in range(2):
        await count(figures)
        assert await shown(figures) == {
            ("", "", date(2026, 1, 1), "vi", "rated_3"): 7,
            ("", "", date(2026, 2, 1), "en", "rated_1"): 1,
        }
