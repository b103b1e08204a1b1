"""Tasks from the log alone: random lives of dossiers, and what intake, synchronisation and removal write."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest

from intake.books.fold_tasks import TASK_COLUMNS, folded_tasks, left_in_removed, task_differences
from intake.books.seal import HASHED_COLUMNS, jsonb_text
from intake.books.verify import verify
from intake.bulk.loader import Import
from intake.refusals import WrongTask
from intake.rules.apply import apply
from intake.rules.changes import (
    CROWDED_BYTES,
    Applied,
    AskLead,
    Correction,
    EndTask,
    Given,
    Lead,
    Move,
    OpenTask,
    PutOff,
    Reception,
    Removal,
    State,
)
from intake.rules.tasks import COUNTED, Task
from lookup.catalogue import Catalogue, Part
from lookup.status import Status
from ops.errors import Refusal
from tests.books import SEALS
from tests.conftest import Database
from tests.house import AGENCY, House, intake_at, intake_settings, new_client, new_token, remove
from tests.intake.test_apply import AGENCIES, NOW, SERVICES
from tests.intake.test_dialects import national
from tests.intake.test_loader import KEYS, written
from tests.intake.test_one_stop import PROVINCE, Office

S = Status
PLACES = ("H1.1.1", "H1.1", "H1.2", "H1")
ROUTE = (Part("Thẩm định", 24, "H1.2"), Part("Giải quyết", 16))
WITH_ROUTE = msgspec.structs.replace(SERVICES["S.20"], code="S.R", route=ROUTE)
CATALOGUE = Catalogue(AGENCIES, SERVICES | {"S.R": WITH_ROUTE})
ANOTHER_DAY = Catalogue(AGENCIES, SERVICES | {"S.R": msgspec.structs.replace(WITH_ROUTE, route=ROUTE[::-1])})


class Life:
    """A dossier by `apply`, its events as the log has them, and its rows of table `task`."""

    def __init__(self, *, now: Any = NOW, **reception: Any) -> None:
        self.now = now
        self.events: list[dict[str, Any]] = []
        self.rows: dict[int, dict[str, Any]] = {}
        given: dict[str, Any] = {
            "code": "H1.1.1-1",
            "agency": "H1.1.1",
            "service": "S.R",
            "channel": "online",
            "status": S.SUBMITTED,
        }
        self.state: State | None = None
        self.do(Reception(**given | reception))

    def do(self, change: Any, catalogue: Catalogue = CATALOGUE) -> None:
        self._take(apply(self.state, change, Given(self.now, catalogue)))

    def _take(self, applied: Applied) -> None:
        if applied.event is None:
            return
        event: dict[str, Any] = dict.fromkeys(HASHED_COLUMNS) | {"erased": None} | applied.event
        event["status"] = event["status"].value
        self.events.append(event | {"detail": event["detail"] and jsonb_text(event["detail"])})
        self.state = applied.state
        for task in applied.state.tasks:
            row = msgspec.structs.asdict(task)
            if row != {name: self.rows.get(task.number, {}).get(name) for name in TASK_COLUMNS}:
                self.rows[task.number] = row | {"version": applied.state.version}

    def wrongs(self) -> list[str]:
        return task_differences(self.rows.values(), folded_tasks(self.events))


def something(life: Life, random: Random) -> Any:
    """A change that may be asked for; not all are allowed."""
    state = life.state
    assert state is not None
    number, place = random.randint(1, max(len(state.tasks), 1)), random.choice(PLACES)
    to = random.choice([status for status in S if state.status.may_become(status)] or [S.RETURNED])
    by: Any = random.choice([{}, {}, {"by_import": True}, {"by_sync": True, "source_seq": 1}])
    items = ("Bản sao",) if to is S.SUPPLEMENT_REQUIRED else ()
    later = (life.now + timedelta(days=random.randint(20, 60))).replace(hour=10)
    return random.choice(
        [
            Move(to=to, note="Lý do", items=items, override="Căn cứ", agency=random.choice([None, place]), **by),
            Move(to=S.PROCESSING, due_at=later, by_sync=True, source_seq=2),
            OpenTask(agency=place, kind="work", work="Ý kiến", after=random.choice([None, number])),
            OpenTask(agency=place, kind="opinion", work="Hạn riêng", due_at=life.now + timedelta(days=3)),
            EndTask(number=number, end=random.choice(["done", "refused", "cancelled"]), reason="x"),
            AskLead(number=number, question="Thiếu gì?"),
            PutOff(due_at=later, reason="Chờ xác minh"),
            Lead(agency=place, reason="Đúng thẩm quyền"),
            Correction(reason="Nhầm cơ quan", fields={"agency": place}),
        ]
    )


@pytest.mark.parametrize("first", ["a route, online", "a route, accepted", "no route", "another system's"])
def test_tasks_of_five_hundred_lives_are_what_their_events_say(first: str) -> None:
    random = Random(first)
    receptions: dict[str, dict[str, Any]] = {
        "a route, online": {},
        "a route, accepted": {"status": S.RECEIVED, "channel": "direct"},
        "no route": {"service": "S.20"},
        "another system's": {"status": S.RECEIVED, "by_sync": True, "source_seq": 0},
    }
    most = 0
    for _ in range(500):
        life = Life(**receptions[first])
        for _ in range(random.randint(1, 15)):
            life.now += timedelta(hours=random.randint(1, 40))
            try:
                life.do(something(life, random), random.choice([CATALOGUE, ANOTHER_DAY]))
            except Refusal:
                continue
            assert life.wrongs() == [], life.events
        if random.random() < 0.2:
            life.do(Removal(reason="x"))
            assert life.wrongs() == left_in_removed(life.rows.values()) == []
        most = max(most, len(life.rows))
    assert most > 5


def test_due_dates_are_compared_where_no_calendar_counts_them() -> None:
    life = Life(service="S.20", status=S.RECEIVED, channel="direct")
    own = NOW + timedelta(days=2)
    life.do(OpenTask(agency="H1", kind="opinion", work="Ý kiến", due_at=own))
    assert [task.due_at for task, _ in folded_tasks(life.events).values()] == [life.events[0]["due_at"], own]
    later = (NOW + timedelta(days=42)).replace(hour=10)
    life.do(PutOff(due_at=later, reason="Chờ"))
    assert [task.due_at for task, _ in folded_tasks(life.events).values()] == [later, COUNTED]


@pytest.mark.parametrize(
    "change",
    [
        PutOff(due_at=(NOW + timedelta(days=42)).replace(hour=10), reason="Chờ"),
        Lead(agency="H1", reason="Đúng thẩm quyền"),
        OpenTask(agency="H1", kind="opinion", work="Ý kiến"),
        EndTask(number=2, end="done"),
        EndTask(number=2, end="cancelled", reason="Thôi"),
    ],
    ids=lambda change: type(change).__name__,
)
def test_crowded_timeline_gets_no_step_of_the_one_stop(change: Any) -> None:
    life = Life(service="S.20", status=S.RECEIVED, channel="direct")
    life.do(OpenTask(agency="H1", kind="opinion", work="Ý kiến"))
    assert life.state is not None
    for size in (CROWDED_BYTES - 1, CROWDED_BYTES):
        state = msgspec.structs.replace(life.state, timeline_bytes=size)
        applied = apply(state, change, Given(NOW, CATALOGUE))
        assert applied.event is not None
        told = applied.event["flags"] or []
        assert told.count("not_in_timeline") == (size == CROWDED_BYTES or getattr(change, "end", "") == "cancelled")
        assert list(applied.flags) == told


def test_each_column_that_differs_is_named() -> None:
    life = Life(service="S.20", status=S.RECEIVED, channel="direct")
    life.do(OpenTask(agency="H1", kind="opinion", work="Ý kiến"))
    for name in TASK_COLUMNS[1:]:
        other: Any = NOW + timedelta(hours=1) if name.endswith("_at") else 2 if name == "after" else "x"
        rows = [life.rows[1] | {name: other}, life.rows[2]]
        [clause] = task_differences(rows, folded_tasks(life.events))
        assert clause.startswith(f"{name} of task 1 is {other}, the log says ")
    assert task_differences([life.rows[1]], folded_tasks(life.events)) == ["task 2, opinion of H1, is missing"]
    third = life.rows[2] | {"number": 3}
    told = folded_tasks(life.events)
    assert task_differences([*life.rows.values(), third], told) == ["task 3 is there, and the log knows of none"]
    stale = life.rows[2] | {"version": 1}
    assert task_differences([life.rows[1], stale], told) == ["task 2 is of version 1, the log says 2"]


def test_event_that_ends_what_is_no_task_is_not_followed() -> None:
    life = Life()
    forged = life.events[0] | {"version": 2, "kind": "task_ended", "task": 7, "detail": '{"state":"done"}'}
    with pytest.raises(WrongTask):
        folded_tasks([*life.events, forged])
    with pytest.raises(KeyError):
        folded_tasks([*life.events, forged | {"detail": None}])


def test_of_a_removed_dossier_nothing_is_owed_and_no_words_are_left() -> None:
    row = Task(number=1, agency="H1", kind="work", work="", state="open", opened_at=NOW)
    done = msgspec.structs.replace(row, number=2, state="done", work="Thẩm định", ended_at=NOW)
    rows = [msgspec.structs.asdict(each) for each in (row, done)]
    assert left_in_removed(rows) == [
        "task 1 is open, and the dossier was removed",
        "task 2 is done, and the dossier was removed",
    ]


# -- on servers ------------------------------------------------------------------------------------------------------


async def findings(database: Database) -> list[str]:
    connection = await asyncpg.connect(database.auditor_url)
    found: list[str] = []
    await verify(connection, found.append)
    await connection.close()
    return found


async def states(owner: Any, code: str) -> list[str]:
    rows = await owner.fetch("SELECT kind, state FROM task WHERE code = $1 ORDER BY number", code)
    return [f"{row['kind']} {row['state']}" for row in rows]


@pytest.fixture
async def routed(database: Database, owner: Any) -> AsyncIterator[House]:
    """An intake alone, where the work on S.004 is a part of the province's and one of the receiving agency's."""
    route = [{"work": "Thẩm định", "hours": 8, "agency": PROVINCE}, {"work": "Giải quyết", "hours": 8}]
    await owner.execute("UPDATE service SET route = $1 WHERE code = 'S.004'", jsonb_text(route))
    token = await new_token(database)
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, token)


async def test_verify_follows_what_intake_writes_and_names_what_was_altered(
    routed: House, database: Database, owner: Any
) -> None:
    own = Office(routed, await new_client(database, "own", AGENCY))
    up = Office(routed, await new_client(database, "up", PROVINCE))
    await routed.receive(channel="online")
    code = (await routed.receive(channel="direct"))["code"]
    await own.act(code, "tasks", {"agency": PROVINCE, "work": "Ý kiến", "kind": "opinion"})
    await up.act(code, "tasks/3/ask", {"reason": "Thiếu gì?"})
    await own.act(code, "re-appointments", {"due_at": "2027-03-31T10:00:00+07:00", "reason": "Chờ (ví dụ)"})
    gone = (await routed.receive(channel="online"))["code"]
    await own.act(gone, "transitions", {"to": "received"})
    await own.act(gone, "tasks", {"agency": PROVINCE, "work": "Bà Mẫu cần gấp"})
    await remove(owner, gone)
    left = await owner.fetch("SELECT state, work FROM task WHERE code = $1 ORDER BY number", gone)
    assert [tuple(row) for row in left] == [("done", ""), *[("cancelled", "")] * 3]
    assert await findings(database) == []
    for change, told in {
        "UPDATE task SET state = 'done', ended_at = now()": "state of task 1 is done, the log says open",
        "UPDATE task SET agency = 'G99'": "agency of task 1 is G99, the log says G99.01",
        "DELETE FROM task": "task 1, work of G99.01, is missing",
    }.items():
        await owner.execute("BEGIN")
        await owner.execute(f"{change} WHERE code = $1 AND number = 1", code)
        found: list[str] = []
        await verify(_Within(owner), found.append)
        await owner.execute("ROLLBACK")
        assert [each.startswith(f"{code}: {told}") for each in found] == [True], found


class _Within:
    """A connection in a transaction that is open, so that what it altered is seen and can be taken back."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def transaction(self, **_: Any) -> Any:
        return contextlib.AsyncExitStack()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_import_and_synchronisation_end_the_tasks_of_a_dossier_received_here(
    house: House, database: Database, owner: Any, writer: Any, tmp_path: Path
) -> None:
    own = Office(house, await new_client(database, "own", AGENCY))
    synced = (await house.receive(channel="direct"))["code"]
    await own.act(synced, "tasks", {"agency": PROVINCE, "work": "Ý kiến", "kind": "opinion"})
    line = {"id": "1", "dossier": synced, "status": "completed", "outcome": "granted"}
    headers = {"Authorization": f"Bearer {house.token}", "Content-Type": "application/x-ndjson"}
    async with house.http.post(
        f"{house.intake_url}/api/v1/sync", data=msgspec.json.encode(line) + b"\n", headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        assert msgspec.json.decode((await response.text()).splitlines()[0])["result"] == "applied"
    assert await states(owner, synced) == ["work done", "opinion cancelled", "hand_over open"]
    form = national()
    await Import(writer, written(tmp_path, form, name="first.ndjson"), KEYS, SEALS).run()
    imported = form["MaHoSo"]
    assert await states(owner, imported) == []
    up = Office(house, await new_client(database, "up", PROVINCE))
    await up.act(imported, "tasks", {"agency": PROVINCE, "work": "Ý kiến", "kind": "opinion"})
    steps = [*form["TienTrinh"], {"ThoiDiemXuLy": "20261014080000", "TrangThai": 9}]
    longer = national(TrangThaiHoSo=9, TienTrinh=steps, NgayHenTra="20261026090000")
    assert (await Import(writer, written(tmp_path, longer), KEYS, SEALS).run()).appended == 1
    assert await states(owner, imported) == ["opinion cancelled", "hand_over open"]
    assert await findings(database) == []
