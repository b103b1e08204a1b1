"""The log as partners follow it: CloudEvents 1.0, page by page, in the order of commits.

An event is seen by the agency that holds the dossier after it, the one that held it before, the one that received it,
all above these, their successors, and the client that submitted it. It names no applicant, officer or note.

A page looks at LOOKED_AT rows of the log at most, and its cursor moves on even if none of them is this client's: there
is no index per agency. Events of transactions that are still open, and all behind them, wait for the next page.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec

from intake.books import settled
from intake.partners.cursor import BEGINNING, SEAL_BYTES, Cursor
from intake.rules.requests import EARLIEST
from intake.rules.scope import side_of
from lookup.catalogue import Catalogue
from lookup.clock import Zoned, local
from lookup.status import Status, StatusSlug
from ops.errors import Kind, Refusal, Unavailable

LOOKED_AT: Final = 20_000
"""Rows of the log that one page looks at, at most."""
SEEN_KINDS: Final = (
    *("received", "moved", "noted", "number_bound", "corrected", "due_changed", "led_by", "task_opened", "task_ended"),
    "removed",
)
"""The kinds of events that partners see. Others, and those of later releases, are passed over."""


def _merged(columns: str, condition: str) -> str:
    """Rows of the log in commit order, by an index each for imported events and all others.

    $6: how many, $7: imported events too. The columns are named one by one: who delivers webhooks may not read all.
    """
    half = f"""(SELECT {columns}
            FROM event
           WHERE {{which}}
             AND {condition}
           ORDER BY epoch, xid, seq
           LIMIT $6)"""
    return f"""(SELECT e.*
   FROM ({half.format(which="NOT bulk")}
          UNION ALL
         {half.format(which="bulk AND $7")}) AS e
  ORDER BY e.epoch, e.xid, e.seq
  LIMIT $6) AS looked"""


def _last_live_one(condition: str, which: str = "NOT bulk") -> str:
    """The last event for which the condition holds, imported ones left out."""
    return f"""
SELECT epoch, xid, seq, seal
  FROM event
 WHERE {which}
   AND {condition}
 ORDER BY epoch DESC, xid DESC, seq DESC
 LIMIT 1
"""


def _last_one(condition: str) -> str:
    """The last event for which the condition holds."""
    return f"""
SELECT e.epoch, e.xid, e.seq, e.seal
  FROM (({_last_live_one(condition)})
         UNION ALL
        ({_last_live_one(condition, "bulk")})) AS e
 ORDER BY e.epoch DESC, e.xid DESC, e.seq DESC
 LIMIT 1
"""


CHECKED = f"""
SELECT now() AS now,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
       {settled.EPOCH} AS settled,
       (SELECT max(number) FROM epoch) AS epoch,
       (SELECT seal FROM event WHERE NOT bulk AND (epoch, xid, seq) = ($1, $2::xid8, $3)) AS seal,
       (SELECT seal FROM event WHERE bulk     AND (epoch, xid, seq) = ($1, $2::xid8, $3)) AS bulk_seal
"""

# $1 to $3: the cursor. $4 and $5: the horizon, which binds the newest epoch only; in a database made from a dump those
# before have ids from elsewhere.
_BEHIND = "(epoch, xid, seq) > ($1, $2::xid8, $3) AND (epoch, xid) < ($5, $4::xid8)"
_COLUMNS = (
    "epoch, xid, seq, seal, code, version, kind, bulk, occurred_at, recorded_at, flags, submitted_by, came_from, "
    "status, agency, origin, due_at, official_number"
)
_SERVICE = "coalesce(looked.service, (SELECT d.service FROM dossier AS d WHERE d.code = looked.code)) AS service"
_LOOKED = _merged(f"{_COLUMNS}, service", _BEHIND)

_HERE = """agency    IN (SELECT unnest($12::text[]))
        OR origin    IN (SELECT unnest($12::text[]))
        OR came_from IN (SELECT unnest($12::text[]))"""

# Lists of agencies as sub-selects: PostgreSQL hashes these, and compares an array of a parameter one by one.
PAGE = f"""
SELECT {_COLUMNS}, {_SERVICE}
  FROM {_LOOKED}
 WHERE kind = ANY ($8)
   AND (submitted_by = $9 OR $10 AND ({_HERE}))
   AND ($11 OR {_HERE})
 LIMIT $13
"""

# What PAGE looks at, whoever may see it.
TAIL = f"""
SELECT {_COLUMNS}, {_SERVICE}
  FROM {_LOOKED}
"""

LAST_LOOKED = f"""
SELECT epoch, xid, seq, seal, looked_at
  FROM (SELECT *, row_number() OVER (ORDER BY epoch, xid, seq) AS looked_at
          FROM {_merged("epoch, xid, seq, seal", _BEHIND)}) AS numbered
 ORDER BY looked_at DESC
 LIMIT 1
"""

NEWEST = _last_one(settled.BEFORE_OPEN_ONES)
NEWEST_LIVE = _last_live_one(settled.BEFORE_OPEN_ONES)
BEFORE = _last_one("(epoch, xid, seq) < ($1, $2::xid8, $3)")

# By the index of times: of the events recorded between two moments the first in commit order.
FIRST_SINCE = """
SELECT e.epoch, e.xid, e.seq, e.recorded_at
  FROM event AS e
 WHERE e.recorded_at >= $1
   AND e.recorded_at < $2
 ORDER BY e.epoch, e.xid, e.seq
 LIMIT 1
"""

# Of the epochs that began since a cursor's, the one that goes back furthest.
REWOUND_TO = """
SELECT e.epoch, e.xid, e.seq, e.seal, p.lost_since
  FROM epoch AS p
  LEFT JOIN LATERAL (SELECT epoch, xid, seq, seal
                       FROM event
                      WHERE NOT bulk AND epoch < p.number AND xid = p.resume_xid AND seq = p.resume_seq
                      ORDER BY epoch DESC
                      LIMIT 1) AS e ON true
 WHERE p.number > $1
   AND p.lost_since IS NOT NULL
 ORDER BY p.lost_since
 LIMIT 1
"""


class FeedRewound(Refusal):
    """The database was restored to before this cursor's event. `resume` is the last position that old and new books
    share; `lost_since`: what was recorded from then on may be gone or be other than before."""

    kind = Kind.GONE
    code = "feed_rewound"
    title = (
        "The books went back to before this cursor. Go on at `resume`, and read again what changed since `lost_since`."
    )
    title_vi = "Sổ dữ liệu đã được khôi phục về trước vị trí này. Hãy đọc tiếp từ `resume` và đọc lại thay đổi từ `lost_since`."  # noqa: E501


class FeedHalted(Unavailable):
    """The log does not have this cursor's event, and no operator has said yet from where it goes on."""

    code = "feed_halted"
    title = (
        "The log does not have the event of this cursor: the books may have been restored just now. Try again later."
    )
    title_vi = "Sổ dữ liệu không có sự kiện ở vị trí này, có thể vừa được khôi phục. Vui lòng thử lại sau."
    usual_retry_after = 30


class ChangeData(msgspec.Struct, frozen=True, kw_only=True):
    """The dossier after the event. `flags`: late, not_owner, after_final, irregular_move, by_import …

    `official_number` is null but in the event that binds or corrects it.

    Of two events of a dossier the one with the higher (`epoch`, `version`) is the newer. `service`: as it is now; null
    for those whom the dossier has left.
    """

    epoch: int
    version: int
    status: StatusSlug
    status_number: int
    final: bool
    occurred_at: Zoned
    agency: str
    came_from: str | None
    origin: str
    service: str | None
    due_at: Zoned | None
    official_number: str | None
    flags: list[str]
    bulk: bool


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change as CloudEvents 1.0 has it. `id` is the position in the log, `sequence` sorts like it as text."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: Zoned
    sequence: str
    datacontenttype: str = "application/json"
    data: ChangeData


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the log. `next` is the cursor to ask with next. `caught_up`: there was nothing behind this page."""

    events: list[ChangeEvent]
    next: str
    caught_up: bool


@dataclass(frozen=True, slots=True)
class Follower:
    """Whose events: those of `agencies`, and those of dossiers that this client submitted.

    `mine`: of its submissions only. `narrowed`: of these agencies only, its submissions to others too are left out.
    """

    client: str
    agencies: frozenset[str]
    bulk: bool = True
    mine: bool = False
    narrowed: bool = False

    def sees(self, row: Mapping[str, Any]) -> bool:
        """As PAGE decides it, for a row that was read already."""
        if row["kind"] not in SEEN_KINDS or (row["bulk"] and not self.bulk):
            return False
        own = row["submitted_by"] == self.client
        here = not self.agencies.isdisjoint((row["agency"], row["origin"], row["came_from"]))
        return (own or (here and not self.mine)) and (here or not self.narrowed)

    def may_know_the_service(self, row: Mapping[str, Any]) -> bool:
        """Whether the dossier is still with these agencies, or this client submitted it."""
        return row["submitted_by"] == self.client or not self.agencies.isdisjoint((row["agency"], row["origin"]))


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as PAGE has them, who reads them, the cursor behind all looked at, and whether the log ends there."""

    rows: Sequence[Mapping[str, Any]]
    follower: Follower
    next: Cursor
    caught_up: bool
    looked_at: int | None = None
    """Rows of the log; None for a full page, which is not told."""

    def told(self, source: str) -> Changes:
        """As an answer has it. `source`: the installation, as urn:hoso24:<name>."""
        events = [told(row, source, self.follower) for row in self.rows]
        return Changes(events=events, next=self.next.text, caught_up=self.caught_up)


Fetch = Callable[..., Awaitable[Sequence[Mapping[str, Any]]]]
"""`fetch(sql, *arguments)` of a connection or a pool."""


def agencies_seen(catalogue: Catalogue, scope: str, day: date, *, sandbox: bool) -> frozenset[str]:
    """The agencies whose dossiers a client of this scope sees on that day (intake/rules/scope.py), of the sandbox or
    not."""
    return frozenset(
        code
        for code, agency in catalogue.agencies.items()
        if agency.sandbox == sandbox and scope in side_of(catalogue, code, day)
    )


async def page(fetch: Fetch, follower: Follower, after: Cursor, limit: int) -> Page:
    """The next events behind a cursor, `limit` at most. Raises FeedRewound, FeedHalted, Unavailable."""
    seen_from = await _checked(fetch, after)
    looked = (*after[:3], seen_from["horizon"], seen_from["settled"], LOOKED_AT, follower.bulk)
    agencies = list(follower.agencies)
    whose = (follower.client, not follower.mine, not follower.narrowed, agencies)
    rows = await fetch(PAGE, *looked, SEEN_KINDS, *whose, limit)
    if len(rows) == limit:
        return Page(rows, follower, cursor_of(rows[-1]), caught_up=False)
    last = await fetch(LAST_LOOKED, *looked)
    if not last:
        return Page(rows, follower, after, caught_up=True)
    looked_at = last[0]["looked_at"]
    return Page(rows, follower, cursor_of(last[0]), caught_up=looked_at < LOOKED_AT, looked_at=looked_at)


async def next_events(fetch: Fetch, after: Cursor, most: int) -> tuple[Sequence[Mapping[str, Any]], datetime]:
    """The next events behind a cursor, whoever may see them, and PostgreSQL's time.

    Raises FeedRewound, FeedHalted, Unavailable.
    """
    seen_from = await _checked(fetch, after)
    rows = await fetch(TAIL, *after[:3], seen_from["horizon"], seen_from["settled"], most, True)
    return rows, seen_from["now"]


async def newest(fetch: Fetch) -> Cursor:
    """Behind everything that a page would show now. Raises Unavailable."""
    rows = await fetch(NEWEST)
    return cursor_of(rows[0]) if rows else BEGINNING


async def since(fetch: Fetch, moment: datetime) -> Cursor:
    """Before the first event recorded at this moment or later; behind all where there is none. Raises Unavailable."""
    now: datetime = (await fetch("SELECT now() AS now"))[0]["now"]
    start, step = max(moment, EARLIEST), timedelta(hours=1)
    while start <= now:
        if found := await fetch(FIRST_SINCE, start, start + step):
            # One recorded up to ten seconds later may have come before it.
            (first,) = await fetch(FIRST_SINCE, start, found[0]["recorded_at"] + timedelta(minutes=1))
            before = await fetch(BEFORE, first["epoch"], first["xid"], first["seq"])
            return cursor_of(before[0]) if before else BEGINNING
        start, step = start + step, step * 4
    return await newest(fetch)


def told(row: Mapping[str, Any], source: str, follower: Follower) -> ChangeEvent:
    """A row of PAGE as this follower reads it."""
    status = Status(row["status"])
    epoch, xid, seq = row["epoch"], row["xid"], row["seq"]
    return ChangeEvent(
        id=f"{epoch}-{xid}-{seq}",
        source=source,
        type=f"vn.hoso24.dossier.{row['kind']}",
        subject=row["code"],
        time=local(row["recorded_at"]),
        sequence=f"{epoch:010}{xid:019}{seq:019}",
        data=ChangeData(
            epoch=epoch,
            version=row["version"],
            status=status.slug,
            status_number=status,
            final=status.final,
            occurred_at=local(row["occurred_at"]),
            agency=row["agency"],
            came_from=row["came_from"],
            origin=row["origin"],
            service=row["service"] if follower.may_know_the_service(row) else None,
            due_at=local(row["due_at"]),
            official_number=row["official_number"],
            flags=list(row["flags"] or ()),
            bulk=row["bulk"],
        ),
    )


async def _checked(fetch: Fetch, after: Cursor) -> Mapping[str, Any]:
    """CHECKED: the horizon, below which all transactions have ended, and the newest epoch that is shown.

    Raises FeedRewound, FeedHalted.
    """
    (row,) = await fetch(CHECKED, after.epoch, after.xid, after.seq)
    seal = row["seal"] or row["bulk_seal"] or b""
    if after == BEGINNING or (seal and seal[:SEAL_BYTES] == after.seal):
        return row
    if after.epoch >= row["epoch"]:
        raise FeedHalted("If nothing was restored, this cursor is not of this installation.")
    for back in await fetch(REWOUND_TO, after.epoch):
        resume = cursor_of(back) if back["xid"] is not None else await since(fetch, back["lost_since"])
        raise FeedRewound(resume=resume.text, lost_since=local(back["lost_since"]).isoformat())
    raise FeedRewound(resume=BEGINNING.text, lost_since=None)


def cursor_of(row: Mapping[str, Any]) -> Cursor:
    """The cursor behind this event."""
    return Cursor(row["epoch"], row["xid"], row["seq"], bytes(row["seal"][:SEAL_BYTES]))
