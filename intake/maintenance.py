"""Notices of planned maintenance: announce, list and withdraw them.

Decree 224/2026 art. 13: maintenance is announced at least seven working days ahead, with the time of its end, except in
cases of force majeure. A later announcement is refused unless it has a reason, which is stored with it. Notices and
withdrawals are only inserted, never changed.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from typing import Any, NamedTuple

import asyncpg
from rich.table import Table

from intake.rules.workdays import add_working_days, working_days_before
from lookup.clock import VIETNAM
from lookup.maintenance import Part

ANNOUNCE = """
INSERT INTO maintenance (starts_at, ends_at, shown_from, affects, text_vi, text_en, announced_by, urgent_reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING number
"""

ANNOUNCED = """
SELECT number, starts_at, ends_at, affects, text_vi, text_en, announced_at, announced_by, urgent_reason,
       withdrawn_at, withdrawn_by, reason AS withdrawal_reason, now() AS now
  FROM maintenance
  LEFT JOIN maintenance_withdrawal USING (number)
 WHERE $1 OR (ends_at > now() AND withdrawn_at IS NULL)
 ORDER BY starts_at, number
"""

# A notice that is over cannot be withdrawn, and a notice cannot be withdrawn twice.
WITHDRAW = """
INSERT INTO maintenance_withdrawal (number, withdrawn_by, reason)
SELECT number, $2, $3
  FROM maintenance
 WHERE number = $1
   AND ends_at > now()
    ON CONFLICT DO NOTHING
RETURNING number
"""


class NoticeRefused(Exception):
    """An announcement or withdrawal that is not possible; the message says why, and what is possible."""


class Plan(NamedTuple):
    """The maintenance to announce. `urgent_reason` says why it is announced at short notice; None if it is not."""

    starts_at: datetime
    ends_at: datetime
    affects: Sequence[Part]
    text_vi: str
    text_en: str
    urgent_reason: str | None = None


async def announce(connection: Any, plan: Plan, *, by: str, notice_days: int) -> int:
    """Announce the maintenance; returns the number of the notice. Raises NoticeRefused.

    `notice_days` is the number of working days between the announcement and the start.
    """
    now = await connection.fetchval("SELECT now()")
    check(plan, now, notice_days)
    opening = working_days_before(_day(plan.starts_at), notice_days)
    shown_from = datetime.combine(opening, time(), VIETNAM)
    affects = [part.value for part in plan.affects]
    arguments = (plan.starts_at, plan.ends_at, shown_from, affects, plan.text_vi, plan.text_en, by, plan.urgent_reason)
    try:
        return int(await connection.fetchval(ANNOUNCE, *arguments))
    except asyncpg.CheckViolationError as violated:
        raise NoticeRefused(
            f"The database refuses the notice: {str(violated.constraint_name).replace('_', ' ')}."
        ) from violated


def check(plan: Plan, now: datetime, notice_days: int) -> None:
    """Raise NoticeRefused unless this maintenance may be announced now."""
    if plan.ends_at <= plan.starts_at:
        raise NoticeRefused("Maintenance has to end after it starts.")
    if plan.ends_at <= now:
        raise NoticeRefused("This maintenance is over already.")
    earliest = earliest_start(now, notice_days)
    if _day(plan.starts_at) < earliest and not plan.urgent_reason:
        raise NoticeRefused(
            f"It starts on {_day(plan.starts_at):%Y-%m-%d}, less than {notice_days} working days ahead: the earliest "
            f"day is {earliest:%Y-%m-%d}. If it is urgent, give the reason with --urgent REASON."
        )


def earliest_start(now: datetime, notice_days: int) -> date:
    """The first day on which maintenance that is announced now may start. Today does not count."""
    return add_working_days(_day(now), notice_days)


async def withdraw(connection: Any, number: int, *, by: str, reason: str) -> None:
    """Withdraw a notice. Raises NoticeRefused unless the notice exists, is not over and not withdrawn yet."""
    if await connection.fetchval(WITHDRAW, number, by, reason) is None:
        raise NoticeRefused(
            f"There is no notice {number}, or it is over or withdrawn already: see `hoso24 maintenance list --all`."
        )


async def announced(connection: Any, *, everything: bool) -> list[Any]:
    """The notices that are not over and not withdrawn, or with `everything` all notices, ordered by their start."""
    rows: list[Any] = await connection.fetch(ANNOUNCED, everything)
    return rows


def table(rows: Iterable[Any]) -> Table:
    """The notices as a table for a terminal, times in UTC+7."""
    table = Table(title="Maintenance (UTC+7)", title_justify="left", show_lines=True)
    for column, ratio in (("no.", None), ("state", None), ("from, to", None), ("affects", None), ("text", 1)):
        table.add_column(column, overflow="fold", ratio=ratio)
    for row in rows:
        when = f"{_clock(row['starts_at'])}\n{_clock(row['ends_at'])}"
        table.add_row(str(row["number"]), _state(row), when, "\n".join(row["affects"]), "\n".join(_said(row)))
    return table


def _said(row: Any) -> Iterator[str]:
    """The public texts, and below them what is stored and not public."""
    yield row["text_vi"]
    yield row["text_en"]
    yield f"– announced {_clock(row['announced_at'])} by {row['announced_by']}"
    if row["urgent_reason"]:
        yield f"– urgent: {row['urgent_reason']}"
    if row["withdrawn_at"]:
        yield f"– withdrawn {_clock(row['withdrawn_at'])} by {row['withdrawn_by']}: {row['withdrawal_reason']}"


def _state(row: Any) -> str:
    if row["withdrawn_at"]:
        return "withdrawn"
    if row["ends_at"] <= row["now"]:
        return "over"
    return "running" if row["starts_at"] <= row["now"] else "coming"


def _day(moment: datetime) -> date:
    return moment.astimezone(VIETNAM).date()


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(VIETNAM):%Y-%m-%d %H:%M}"
