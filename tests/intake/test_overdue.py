"""What is late and what will be: whose, at which hour, and not while the clock stands still."""

from datetime import datetime
from typing import Any

import pytest

from intake.overdue import owed
from lookup.catalogue import Catalogue, CatalogueCopy
from lookup.clock import VIETNAM
from lookup.status import Status
from tests.house import ADD_SANDBOX, AGENCY
from tests.intake.written import Written

ADD_TASK = """
INSERT INTO task (code, number, agency, kind, work, state, after, due_at, opened_at, ended_at, version)
VALUES ($1, $2, $3, $4, '', $5, $6, $7, now(), CASE WHEN $5 = 'done' THEN now() END, 1)
"""
PROVINCE = "G99.01"


def on(text: str) -> datetime:
    """`11-27 10:00` on a Vietnamese clock; 27 November 2026 is a Friday."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


FRIDAY = on("11-27 10:00")


class Office:
    """Writes dossiers with tasks of any due dates."""

    def __init__(self, writer: Any) -> None:
        self._writer, self._written = writer, Written(writer)
        self._tasks: dict[str, int] = {}

    async def dossier(self, *, due: str | None = "12-31 10:00", **fields: Any) -> str:
        came = {"submitted_at": on("11-02 09:00"), "received_at": on("11-02 09:00")}
        return await self._written.receive(**came | {"due_at": due and on(due)} | fields)

    async def task(
        self, code: str, due: str, *, agency: str = AGENCY, kind: str = "work", state: str = "open"
    ) -> tuple[str, int]:
        number = self._tasks[code] = self._tasks.get(code, 0) + 1
        after = 12 if state in ("asked", "waiting") else None
        await self._writer.execute(ADD_TASK, code, number, agency, kind, state, after, on(due))
        return code, number

    async def owed(self, at: datetime = FRIDAY, agency: str | None = None) -> list[tuple[str, str, int | None]]:
        found = await owed(self._writer, await self.catalogue(), at, agency)
        return [(each.what, each.code, each.number) for each in found]

    async def catalogue(self) -> Catalogue:
        return await CatalogueCopy(self._writer).get()


@pytest.fixture
def office(writer: Any) -> Office:
    return Office(writer)


async def test_tasks_are_late_due_today_or_on_the_next_working_day(office: Office) -> None:
    code = await office.dossier()
    minute = await office.task(code, "11-27 09:59")
    now = await office.task(code, "11-27 10:00")
    evening = await office.task(code, "11-27 23:59", state="asked")
    saturday = await office.task(code, "11-28 09:00")
    monday = await office.task(code, "11-30 23:59")
    await office.task(code, "12-01 00:00")
    await office.task(code, "11-20 09:00", state="done")
    await office.task(code, "11-20 09:00", state="waiting")
    assert await office.owed() == [
        ("late", *minute),
        ("today", *now),
        ("today", *evening),
        ("tomorrow", *saturday),
        ("tomorrow", *monday),
    ]
    assert [what for what, *_ in await office.owed(on("11-27 00:00"))] == ["today"] * 3 + ["tomorrow"] * 2
    assert [what for what, *_ in await office.owed(on("12-01 00:01"))] == ["late"] * 6


async def test_application_that_nobody_decided_on_is_told_apart(office: Office) -> None:
    online: dict[str, Any] = {"status": 1, "channel": "online", "received_at": None, "due": None}
    over = await office.task(await office.dossier(**online), "11-27 09:00", kind="decide")
    soon = await office.task(await office.dossier(**online), "11-27 16:00", kind="decide")
    work = await office.task(await office.dossier(), "11-27 08:00")
    assert await office.owed() == [("undecided", *over), ("late", *work), ("today", *soon)]


async def test_apology_is_owed_from_a_working_day_before_the_due_date_until_it_is_put_off(
    office: Office, owner: Any
) -> None:
    monday = await office.dossier(due="11-30 10:00")
    for code in (monday, await office.dossier(due="12-01 10:00")):
        await office.task(code, "12-31 10:00")
    assert await office.owed() == [("apology", monday, None)]
    assert await office.owed(on("11-26 17:00")) == []
    await owner.execute("UPDATE service SET policy = '{\"apology_days\": 3}' WHERE code = 'S.004'")
    assert [what for what, *_ in await office.owed()] == ["apology"] * 2
    await owner.execute("UPDATE service SET policy = '{\"apology_days\": 0}' WHERE code = 'S.004'")
    assert await office.owed() == []
    assert await office.owed(on("11-30 00:00")) == [("apology", monday, None)]
    await owner.execute("UPDATE dossier SET due_at = due_at + interval '7 days' WHERE code = $1", monday)
    assert await office.owed(on("11-30 00:00")) == []


@pytest.mark.parametrize("status", [status for status in Status if status.paused], ids=str)
async def test_nothing_is_late_while_the_clock_stands_still(office: Office, owner: Any, status: Status) -> None:
    code = await office.dossier(due="11-20 10:00")
    await office.task(code, "11-20 10:00")
    assert [what for what, *_ in await office.owed()] == ["late", "apology"]
    await owner.execute(
        "UPDATE dossier SET status = $2, action_needed = CASE WHEN $2::smallint IN (5, 6) THEN 'x' END WHERE code = $1",
        *(code, status.value),
    )
    assert await office.owed() == []


async def test_agency_is_told_of_itself_and_those_below_it(office: Office, owner: Any) -> None:
    code = await office.dossier(due="11-27 16:00")
    own = await office.task(code, "11-27 08:00")
    up = await office.task(code, "11-27 09:00", agency=PROVINCE)
    await owner.execute(ADD_SANDBOX)
    toy = await office.dossier(agency="X99.03", origin="X99.03", due="11-27 16:00")
    made_up = await office.task(toy, "11-27 07:00", agency="X99.03")
    late, apology = [("late", *own), ("late", *up)], ("apology", code, None)
    assert await office.owed() == [*late, apology]
    assert await office.owed(agency="G99") == [*late, apology]
    assert await office.owed(agency=AGENCY) == [late[0], apology]
    assert await office.owed(agency="G99.02") == []
    assert await office.owed(agency="X99") == [("late", *made_up), ("apology", toy, None)]
