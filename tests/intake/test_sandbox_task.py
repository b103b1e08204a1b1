"""The sandbox's task: what moves when, who moves it, and what is left of it, with a clock that the test turns."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from intake import app as intake_app
from intake import metrics, tidy
from intake.books.ledger import Program
from intake.books.seal import SealKeys
from intake.books.verify import verify
from intake.local import up
from intake.partners import sandbox as task_of
from intake.partners.sandbox import KEPT, LEASE, NoSandbox, Sandbox
from lookup import code as codes
from lookup import sandbox
from lookup.catalogue import CatalogueCopy, load
from lookup.clock import VIETNAM
from lookup.code import Scheme
from lookup.lookup_key import KeyRing
from lookup.status import Status
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.house import House, new_token, open_house, submission, until

KEYS = KeyRing.from_text(KEY_SECRETS)
NINE = datetime(2026, 12, 1, 9, 0, tzinfo=VIETNAM)
FIXED = [sandbox.fixed("X99", status).text for status in Status]
THE_WAY = [
    (0, "submitted"),
    (5, "received"),
    (10, "processing"),
    (15, "supplement_required"),
    (25, "processing"),
    (30, "payment_required"),
    (40, "processing"),
    (50, "completed"),
    (55, "returned"),
]


class Turned:
    """The time as the test has it, whatever the database says."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self, _: datetime) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
async def tasks(database: Database, owner: Any) -> AsyncIterator[Callable[[datetime], tuple[Sandbox, Turned]]]:
    """Makes tasks, each as if in an intake of its own."""
    await load.install_sandbox(owner)
    postgres = Postgres("postgres", lambda: database.writer_url, size=4, deadline=10.0)

    def make(now: datetime) -> tuple[Sandbox, Turned]:
        clock = Turned(now)
        return Sandbox(postgres, CatalogueCopy(postgres), SealKeys.from_text(SEAL_KEYS), clock=clock), clock

    yield make
    await postgres.close()


async def all_due(task: Sandbox) -> float:
    """Turns until nothing is due; the seconds until something is again."""
    while (seconds := await task.turn()) == 0:
        pass
    return seconds


async def steps(owner: Any, code: str, start: datetime) -> list[tuple[float, str]]:
    """Minutes since the start and status, of each event."""
    rows = await owner.fetch(
        "SELECT occurred_at, recorded_at, status FROM event WHERE code = $1 ORDER BY version", code
    )
    assert all(row["occurred_at"] == row["recorded_at"] for row in rows)
    return [((row["occurred_at"] - start).total_seconds() / 60, Status(row["status"]).slug) for row in rows]


async def moving(owner: Any) -> list[str]:
    rows = await owner.fetch("SELECT code FROM dossier WHERE code LIKE 'X99.02-%' AND NOT removed ORDER BY code")
    return [row["code"] for row in rows]


async def does_nothing(task: Sandbox, clock: Turned, owner: Any) -> bool:
    """Whether the task leaves things as they are, though an hour later much is due."""
    before = await owner.fetchval("SELECT count(*) FROM event")
    clock.pass_by(hours=1)
    await task.turn()
    return bool(await owner.fetchval("SELECT count(*) FROM event") == before)


async def findings(database: Database) -> list[str]:
    connection = await asyncpg.connect(database.auditor_url)
    found: list[str] = []
    try:
        compared = await verify(connection, found.append)
        assert compared.of_sandbox > 0
        assert f"{compared.of_sandbox} dossiers of the sandbox were compared as well." in compared.sentence()
    finally:
        await connection.close()
    return found


# -- the way ---------------------------------------------------------------------------------------------------------


async def test_dossier_of_the_hour_goes_its_way_and_is_returned_within_it(
    tasks: Callable[..., Any], owner: Any, database: Database
) -> None:
    task, clock = tasks(NINE)
    for _ in range(60):
        await all_due(task)
        clock.pass_by(minutes=1)
    assert await moving(owner) == ["X99.02-261201-0900"]
    assert await steps(owner, "X99.02-261201-0900", NINE) == THE_WAY
    row = await owner.fetchrow("SELECT * FROM dossier WHERE code = 'X99.02-261201-0900'")
    assert (row["outcome"], row["supplements"], row["submitted_by"], row["channel"]) == ("granted", 1, None, "online")
    assert row["due_at"] is not None
    assert await findings(database) == []


async def test_every_hour_starts_one_also_over_midnight_in_vietnam(tasks: Callable[..., Any], owner: Any) -> None:
    task, clock = tasks(datetime(2026, 12, 31, 22, 0, tzinfo=VIETNAM))
    for _ in range(4):
        seconds = await all_due(task)
        assert 0 < seconds <= task_of.EVERY
        clock.pass_by(minutes=59, seconds=59)
        await all_due(task)  # a second before the hour nothing starts
        clock.pass_by(seconds=1)
    assert await moving(owner) == [
        "X99.02-261231-2200",
        "X99.02-261231-2300",
        "X99.02-270101-0000",
        "X99.02-270101-0100",
    ]


async def test_task_is_back_on_the_hour(tasks: Callable[..., Any], owner: Any) -> None:
    task, clock = tasks(NINE + timedelta(minutes=59, seconds=57))
    assert await all_due(task) == pytest.approx(3, abs=0.01)
    clock.pass_by(seconds=3)
    await all_due(task)
    assert await moving(owner) == ["X99.02-261201-0900", "X99.02-261201-1000"]


async def test_first_one_starts_at_once_and_says_when(tasks: Callable[..., Any], owner: Any) -> None:
    task, clock = tasks(NINE + timedelta(minutes=20, seconds=30))
    await all_due(task)
    clock.pass_by(minutes=30)
    await all_due(task)
    assert await moving(owner) == ["X99.02-261201-0900"]
    assert await steps(owner, "X99.02-261201-0900", NINE) == [(20.5, "submitted"), (50.5, "received")]


async def test_after_a_stop_of_hours_it_goes_on_without_a_burst(
    tasks: Callable[..., Any], owner: Any, database: Database
) -> None:
    task, clock = tasks(NINE)
    for _ in range(18):
        await all_due(task)
        clock.pass_by(minutes=1)
    stopped, clock = tasks(NINE + timedelta(hours=5, minutes=10))
    await owner.execute("UPDATE sandbox_lease SET lease_until = now() - interval '1 second'")
    await all_due(stopped)
    again = [(310, "processing"), (315, "payment_required"), (325, "processing"), (335, "completed"), (340, "returned")]
    assert await steps(owner, "X99.02-261201-0900", NINE) == [*THE_WAY[:4], again[0]]
    for _ in range(60):
        clock.pass_by(minutes=1)
        await all_due(stopped)
    assert await moving(owner) == ["X99.02-261201-0900", "X99.02-261201-1400", "X99.02-261201-1500"]
    assert await steps(owner, "X99.02-261201-0900", NINE) == [*THE_WAY[:4], *again]
    assert await findings(database) == []


async def test_hour_whose_code_a_developers_dossier_has_is_left_out(tasks: Callable[..., Any], owner: Any) -> None:
    task, clock = tasks(NINE)
    await all_due(task)
    await owner.execute("UPDATE dossier SET submitted_by = 'partner'")  # as if received before the task came
    assert await owner.fetchval("SELECT last FROM daily_sequence WHERE agency = 'X99.02'") == 2359
    await all_due(task)
    assert await moving(owner) == ["X99.02-261201-0900"]
    clock.pass_by(hours=1)
    await all_due(task)
    assert await moving(owner) == ["X99.02-261201-0900", "X99.02-261201-1000"]


# -- who moves it ----------------------------------------------------------------------------------------------------


async def test_one_of_two_tasks_works_and_the_other_takes_over_when_it_is_gone(
    tasks: Callable[..., Any], owner: Any, database: Database
) -> None:
    (first, clock), (second, other_clock) = tasks(NINE), tasks(NINE)
    await all_due(first)
    assert await second.turn() == task_of.EVERY
    assert await does_nothing(second, other_clock, owner)
    await owner.execute("UPDATE sandbox_lease SET lease_until = now() - interval '1 second'")
    await all_due(second)
    clock.pass_by(hours=5)
    assert await does_nothing(first, clock, owner)  # it was stopped meanwhile, and has the token of then
    assert await findings(database) == []


async def test_many_at_once_make_everything_once(tasks: Callable[..., Any], owner: Any, database: Database) -> None:
    several = [tasks(NINE)[0] for _ in range(4)]
    await asyncio.gather(*(all_due(task) for task in several))
    assert await owner.fetchval("SELECT count(*) FROM dossier") == len(FIXED) + 1
    assert await owner.fetchval("SELECT lease_token FROM sandbox_lease") == 1
    assert await owner.fetchval("SELECT lease_until - now() > $1 FROM sandbox_lease", timedelta(seconds=LEASE / 2))
    assert await findings(database) == []


async def test_crash_in_the_middle_leaves_nothing_and_no_lease(
    tasks: Callable[..., Any], owner: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task, clock), (other, _) = tasks(NINE), tasks(NINE)
    append = Program.change
    with monkeypatch.context() as patch:

        async def crash(self: Program, *given: Any, **named: Any) -> Any:
            await append(self, *given, **named)
            raise ConnectionResetError

        patch.setattr(Program, "change", crash)
        with pytest.raises((ConnectionResetError, Unavailable)):
            await all_due(task)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 3  # of the turns before
    await owner.execute("UPDATE sandbox_lease SET lease_until = now() - interval '1 second'")
    await all_due(other)
    assert await does_nothing(task, clock, owner)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == len(FIXED) + 1
    assert await findings(database) == []


async def test_first_transaction_that_fails_gives_no_token(
    tasks: Callable[..., Any], owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task, clock), (other, _) = tasks(NINE), tasks(NINE)
    with monkeypatch.context() as patch:
        patch.setattr(task_of, "STANDING", "SELECT 1 / 0 AS code WHERE $1::text[] IS NOT NULL")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await task.turn()
    await all_due(other)
    assert await does_nothing(task, clock, owner)
    assert await owner.fetchval("SELECT lease_token FROM sandbox_lease") == 1


async def test_catalogue_without_a_sandbox_is_told_once(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    postgres = Postgres("postgres", lambda: database.writer_url, size=1, deadline=10.0)
    task = Sandbox(postgres, CatalogueCopy(postgres), SealKeys.from_text(SEAL_KEYS), every=0.01)
    with pytest.raises(NoSandbox, match="catalogue load --sandbox"):
        await task.turn()
    turns: list[float] = []
    running = asyncio.create_task(task.run())
    with caplog.at_level(logging.WARNING):
        await until(lambda: several(turns, postgres))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [each.message for each in caplog.records if "stands still" in each.message] == [
        "The sandbox stands still: The catalogue has no sandbox. Load it: `hoso24 catalogue load --sandbox`."
    ]
    await postgres.close()


async def several(turns: list[float], postgres: Postgres) -> bool:
    """After a while in which the task has had some turns: each waits for the pool's only connection."""
    await postgres.fetch("SELECT 1")
    turns.append(0)
    return len(turns) > 10


# -- what is left ----------------------------------------------------------------------------------------------------


async def test_dossiers_are_removed_after_seven_days_and_tidied_and_fixed_ones_stay(
    tasks: Callable[..., Any], owner: Any, database: Database
) -> None:
    task, clock = tasks(NINE)
    for _ in range(60):
        await all_due(task)
        clock.pass_by(minutes=1)
    clock.now = NINE + KEPT - timedelta(seconds=1)
    await all_due(task)
    assert "X99.02-261201-0900" in await moving(owner)
    clock.now = NINE + KEPT + task_of.SWEPT_EVERY
    await all_due(task)
    assert await moving(owner) == ["X99.02-261208-0800", "X99.02-261208-0900"]
    event = await owner.fetchrow("SELECT * FROM event WHERE kind = 'removed'")
    assert (event["code"], event["source"], event["recorded_at"]) == ("X99.02-261201-0900", "the sandbox", clock.now)
    assert await owner.fetchval("SELECT applicant_name FROM dossier WHERE removed") is None
    assert await owner.fetchval("SELECT count(*) FROM dossier WHERE code = ANY ($1) AND NOT removed", FIXED) == 10

    archivist = await asyncpg.connect(database.archivist_url, server_settings=tidy.LIKE_THE_TRIGGER)
    assert [count async for count in tidy.erase_the_sandboxs(archivist)] == [len(THE_WAY) + 1]
    assert [count async for count in tidy.erase_the_sandboxs(archivist)] == []
    await archivist.close()
    assert await owner.fetchval("SELECT count(note) FROM event WHERE code = 'X99.02-261201-0900'") == 0
    assert await findings(database) == []


async def test_more_than_a_transaction_removes_go_in_several_and_after_a_long_stop(
    tasks: Callable[..., Any], owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_of, "AT_A_TIME", 2)
    task, clock = tasks(NINE)
    for _ in range(5):
        await all_due(task)
        clock.pass_by(hours=1)
    clock.pass_by(days=400)
    await all_due(task)
    assert await owner.fetchval("SELECT count(*) FROM dossier WHERE removed") == 5
    assert len(await moving(owner)) == 1


async def test_developers_dossier_is_kept_by_its_reception_whatever_its_dates(
    tasks: Callable[..., Any], owner: Any, database: Database, redis_url: str
) -> None:
    task, clock = tasks(NINE)
    async with open_house(database, redis_url) as house:
        house.token = await new_token(database, "X99")
        received = await house.receive(agency="X99.03", applicant={"name": "Trần Thị Thử (hư cấu)"})
        clock.now = await owner.fetchval("SELECT now() + interval '6 days 23 hours'")
        for table in ("dossier", "event"):
            await owner.execute(f"UPDATE {table} SET submitted_at = now() - interval '1 year', due_at = NULL")
        await all_due(task)
        key = received["lookup_key"]
        assert (await house.lookup(f"/api/v1/dossiers/{received['code']}", **{"Hoso24-Key": key}))[0] == 200
        clock.pass_by(hours=2)
        await all_due(task)

        async def is_gone() -> bool:
            return (await house.lookup(f"/api/v1/dossiers/{received['code']}", **{"Hoso24-Key": key}))[0] == 404

        await until(is_gone)
    assert await owner.fetchval("SELECT applicant_name FROM dossier WHERE code = $1", received["code"]) is None


async def test_audit_compares_the_sandbox_and_counts_it_apart(
    tasks: Callable[..., Any], database: Database, redis_url: str
) -> None:
    task, _ = tasks(NINE)
    await all_due(task)
    async with open_house(database, redis_url) as house:
        await house.move((await house.receive())["code"], "processing")
    connection = await asyncpg.connect(database.auditor_url)
    compared = await verify(connection, print)
    await connection.close()
    assert (compared.dossiers, compared.events, compared.of_sandbox) == (1, 2, len(FIXED) + 1)


# -- a real intake ---------------------------------------------------------------------------------------------------


async def test_all_ten_statuses_and_the_hours_dossier_are_there_by_their_keys(
    database: Database, owner: Any, redis_url: str
) -> None:
    await load.install_sandbox(owner)
    for _ in range(2):  # the second time nothing is new
        async with open_house(database, redis_url, intake={"sandbox": "on"}) as house:
            found = [await until(partial(there, house, code)) for code in FIXED]
            assert [each["status_number"] for each in found] == list(range(1, 11))
            assert all(each["agency"]["code"] == "X99.01" for each in found)
            asked = {each["status"]: each["action_needed"] for each in found if each["action_needed"]}
            assert set(asked) == {"supplement_required", "payment_required"}
            (code,) = await moving(owner)
            assert (await until(partial(there, house, code)))["status"] == "submitted"
        await owner.execute("UPDATE sandbox_lease SET lease_until = now() - interval '1 second'")
    assert await owner.fetchval("SELECT count(*) FROM dossier") == len(FIXED) + 1
    assert await findings(database) == []
    # `make up` shows none of them as a sample, and does not take them for its samples.
    assert (await owner.fetch(up.SHOWN), await owner.fetchval(up.IS_FURNISHED)) == ([], False)


async def there(house: House, code: str) -> Any:
    key = KEYS.key(codes.parse(code), 0)
    status, answer = await house.lookup(f"/api/v1/dossiers/{code}", **{"Hoso24-Key": key})
    return answer if status == 200 else None


async def test_real_intake_with_a_fast_clock_delivers_the_whole_way(
    database: Database, owner: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute of the sandbox is 20 ms; citizens read each step's version in order, the last one at the end."""
    await load.install_sandbox(owner)
    began: list[datetime] = []

    def fast(now: datetime) -> datetime:
        began.append(now)
        return NINE + 3000 * (now - began[0])

    def fast_task(*given: Any) -> Sandbox:
        return Sandbox(*given, clock=fast, every=0.02)

    monkeypatch.setattr(intake_app, "Sandbox", fast_task)
    async with open_house(database, redis_url, intake={"sandbox": "on"}) as house:

        async def is_returned() -> Any:
            answer = await there(house, "X99.02-261201-0900")
            return answer if answer and answer["final"] else None

        answer = await until(is_returned)
        assert [step["status"] for step in answer["timeline"]] == [status for _, status in THE_WAY]
    minutes = [minute for minute, _ in await steps(owner, "X99.02-261201-0900", NINE)]
    assert all(late >= due for late, (due, _) in zip(minutes, THE_WAY, strict=True))


async def test_clients_follow_the_sandboxs_own_dossiers_and_change_only_theirs(
    database: Database, owner: Any, redis_url: str
) -> None:
    await load.install_sandbox(owner)
    async with open_house(database, redis_url, intake={"sandbox": "on", "code_scheme": "D"}) as house:
        house.token = await new_token(database, "X99")
        processing = sandbox.fixed("X99", Status.PROCESSING).text
        await until(partial(there, house, processing))
        path = f"/api/v1/dossiers/{processing}"
        for method, action, change in (
            ("POST", "transitions", {"to": "completed"}),
            ("PUT", "official-number", {"number": "01234/2026/99901"}),
            ("POST", "corrections", {"reason": "thử", "channel": "postal"}),
            ("POST", "key", {"reissue": True}),
        ):
            status, answer = await house.hand_in(method, f"{path}/{action}", change)
            assert (status, answer["code"]) == (403, "out_of_scope"), action
            assert "moves by itself" in answer["detail"]
        lines = [
            {"id": "s-1", "dossier": processing, "status": "completed"},
            {"id": "s-2", "dossier": "X99.02-250101-2300", "create": submission(agency="X99.03")},
            {"id": "s-3", "dossier": "X99.03-261201-7000", "create": submission(agency="X99.01")},
            {"id": "s-4", "dossier": "X99.03-261201-7000", "create": submission(agency="X99.03")},
        ]
        sent = {"Authorization": f"Bearer {house.token}", "Content-Type": "application/x-ndjson"}
        content = "\n".join(map(json.dumps, lines))
        async with house.http.post(f"{house.intake_url}/api/v1/sync", data=content, headers=sent) as response:
            *refused, created, _ = [json.loads(each) for each in (await response.text()).splitlines()]
        assert [(each["result"], each["code"]) for each in refused] == [("rejected", "out_of_scope")] * 3
        assert "moves by itself" in refused[0]["detail"]
        assert [each["detail"] for each in refused[1:]] == [
            f"The dossiers of X99.0{n} are the sandbox's own; send yours to X99.03." for n in (2, 1)
        ]
        assert created["result"] == "created"
        # One of theirs under such a code would stand where the next hour's has to begin.
        for theirs in ("X99.01", "X99.02"):
            status, answer = await house.hand_in("POST", "/api/v1/dossiers", submission(agency=theirs))
            assert (status, answer["code"]) == (403, "out_of_scope")
            assert answer["detail"].endswith("send yours to X99.03.")
        before = received(), moved()
        own = await house.receive(agency="X99.03")
        assert codes.parse(own["code"]).scheme is Scheme.B  # also where others are numbered by scheme D
        assert (await house.move(own["code"], "processing"))["status"] == "processing"
        assert (received(), moved()) == before
    assert await findings(database) == []


def received() -> float:
    return float(sum(each.value for each in next(iter(metrics.DOSSIERS_RECEIVED.collect())).samples))


def moved() -> float:
    return float(sum(each.value for each in next(iter(metrics.MOVES.collect())).samples))
