"""The inbox: what the officer's office has to do, by due date."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from aiohttp import web

from intake.desk.frame import DOSSIER, Desk, officer_of
from intake.desk.layout import INBOX, page
from intake.desk.shown import due_words, name_and_tail, task_words
from intake.desk.words import WORDS
from intake.rules.policies import value_of
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.status import Status

ROWS: Final = 50
MOST_COUNTED: Final = 1_000
"""Beyond it a count says so many and a plus."""

# $1: the office. $2: kinds of tasks. $3, $4, $5: from behind this place. $6: rows.
# Of each agency as many as are shown, from its index, and of all these the first.
INBOX_ROWS = """
SELECT t.code, t.number, t.agency, t.kind, t.work, t.state, nullif(t.due_at, 'infinity') AS due_at,
       d.status, d.service, d.agency AS lead, d.channel, d.applicant_name, d.applicant_id
  FROM unnest($1::text[]) AS office (agency)
 CROSS JOIN LATERAL (SELECT *
                       FROM task
                      WHERE task.agency = office.agency
                        AND state IN ('open', 'asked')
                        AND kind = ANY ($2::text[])
                        AND (due_at, code, number) > ($3::text::timestamptz, $4, $5)
                      ORDER BY due_at, code, number
                      LIMIT $6) AS t
  JOIN dossier AS d ON d.code = t.code
 ORDER BY t.due_at, t.code, t.number
 LIMIT $6
"""

# $1: the office. $2, $3, $4: now, and when today and tomorrow end. $5: the most that is counted. $6: statuses in which
# the clock stands still, read one by one: a join would read them all. Handing over, the applicant's turn, counts apart.
COUNTS = """
WITH live AS NOT MATERIALIZED (
    SELECT kind, due_at, code
      FROM task
     WHERE agency = ANY ($1)
       AND state IN ('open', 'asked')
),
     work AS NOT MATERIALIZED (
    SELECT due_at, code
      FROM live
     WHERE kind <> 'hand_over'
),
     of_kinds AS (
    SELECT count(*) FILTER (WHERE kind = 'decide')    AS decide,
           count(*) FILTER (WHERE kind = 'hand_over') AS hand_over
      FROM live
)
SELECT (SELECT count(*)
          FROM (SELECT
                  FROM work
                 CROSS JOIN LATERAL (SELECT FROM dossier
                                      WHERE dossier.code = work.code AND status <> ALL ($6)
                                     OFFSET 0) AS goes_on
                 WHERE work.due_at < $2
                 LIMIT $5))                                                                  AS late,
       (SELECT count(*) FROM (SELECT FROM work WHERE due_at >= $2 AND due_at < $3 LIMIT $5)) AS today,
       (SELECT count(*) FROM (SELECT FROM work WHERE due_at >= $3 AND due_at < $4 LIMIT $5)) AS tomorrow,
       (SELECT count(*) FROM (SELECT FROM work WHERE due_at >= $4 LIMIT $5))                 AS later,
       decide, hand_over
  FROM of_kinds
"""

_FIRST: Final = ("-infinity", "", 0)
_WORK: Final = ("decide", "work", "opinion", "transfer")
_SHOWN: Final[Mapping[str, tuple[str, ...]]] = {"": _WORK, "tiep-nhan": ("decide",), "tra-ket-qua": ("hand_over",)}
"""Value of `viec` → the kinds of tasks that are listed."""


class InboxPages:
    """The officer's first page."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.get(INBOX, self.inbox)]

    async def inbox(self, request: web.Request) -> web.Response:
        """The office's open tasks, fifty of them, and how many there are; `viec` shows those of one kind.

        Names are shown, so the read is logged first. Raises Unavailable.
        """
        officer, catalogue = officer_of(request), await self._desk.catalogue.get()
        office = sorted(self._desk.office(officer))
        shown = request.query.get("viec", "")
        kinds = _SHOWN.get(shown, _WORK)
        now = datetime.now(UTC)
        after = place_in(request.query.get("sau", ""))
        rows = await self._desk.postgres.fetch(INBOX_ROWS, office, kinds, *after, ROWS + 1)
        counts = (await self._desk.postgres.fetch(COUNTS, office, *_ends(now), MOST_COUNTED + 1, _STANDS_STILL))[0]
        more, rows = len(rows) > ROWS, rows[:ROWS]
        await self._desk.read_logged(officer, sorted({row["code"] for row in rows}), "inbox")
        context = {
            "here": INBOX,
            "counts": [(name, _counted(counts[name])) for name in ("late", "today", "tomorrow", "later")],
            "kinds": [
                ("decide", _counted(counts["decide"]), f"{INBOX}?viec=tiep-nhan"),
                ("hand_over", _counted(counts["hand_over"]), f"{INBOX}?viec=tra-ket-qua"),
            ],
            "filtered": bool(shown),
            "rows": [_row(row, now, office, catalogue) for row in rows],
            "next": _next(shown, rows[-1]) if more else None,
        }
        return page(request, "inbox.html", context)


_STANDS_STILL: Final = [status.value for status in Status if status.paused]


def _ends(now: datetime) -> tuple[datetime, datetime, datetime]:
    """Now, and the ends of today and of tomorrow in Vietnam."""
    tonight = datetime.combine(now.astimezone(VIETNAM).date() + timedelta(days=1), time(), VIETNAM)
    return now, tonight, tonight + timedelta(days=1)


def _counted(n: int) -> str:
    return f"{n:,}".replace(",", ".") if n <= MOST_COUNTED else "1.000+"


def _row(row: Any, now: datetime, office: list[str], catalogue: Catalogue) -> dict[str, Any]:
    late = row["due_at"] is not None and row["due_at"] < now and row["status"] not in _STANDS_STILL
    hours = value_of(catalogue.services.get(row["service"]), "decision_hours")
    service = catalogue.service_view(row["service"])
    where = WORDS["inbox.here"] if row["lead"] in office else catalogue.agency_view(row["lead"]).name or row["lead"]
    if row["kind"] == "decide" and row["channel"] == "online":
        where = WORDS["inbox.online"]
    return {
        "late": late,
        "due": due_words(row["due_at"], now, stands_still=row["status"] in _STANDS_STILL),
        "code": row["code"],
        "href": f"{DOSSIER}/{codes.parse(row['code']).path}",
        "applicant": name_and_tail(row["applicant_name"], row["applicant_id"]),
        "work": task_words(row["kind"], row["work"], hours),
        "service": service.name or service.code,
        "where": where,
    }


def _next(shown: str, row: Any) -> str:
    at = row["due_at"].isoformat() if row["due_at"] else "infinity"
    mark = base64.urlsafe_b64encode(f"{at} {row['code']} {row['number']}".encode()).decode().rstrip("=")
    return f"{INBOX}?{f'viec={shown}&' if shown in _SHOWN and shown else ''}sau={mark}"


def place_in(mark: str) -> tuple[str, str, int]:
    """The place behind which a page of the inbox begins; of a mark that is none of ours the first one."""
    try:
        at, code, number = base64.urlsafe_b64decode(mark + "=" * (-len(mark) % 4)).decode().split(" ")
        moment = at if at == "infinity" else datetime.fromisoformat(at).isoformat()
        return moment, codes.parse(code).text, int(number) if 0 < int(number) < 100 else 0
    except (binascii.Error, ValueError, codes.MalformedCode):
        return _FIRST
