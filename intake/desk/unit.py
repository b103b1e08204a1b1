"""The page of a unit's head: what is late in each agency of the scope, and which rules were exceeded this month.

It has counts and codes and names nobody, so nothing of it is written to the log of reads.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from intake.desk.frame import DOSSIER, Desk, officer_of
from intake.desk.layout import UNIT, page
from intake.desk.officers import Officer
from intake.desk.words import WORDS
from intake.rules.scope import covers
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.status import Status
from ops.errors import NoSuchPath

ROLES: Final = frozenset({"head", "auditor"})
AGENCIES: Final = 100
"""Agencies that are shown: those with the most that is late."""
MOST_COUNTED: Final = 100
"""Beyond it a count says so many and a plus."""
CODES: Final = 10
"""Codes that are named for a count."""

# What a paused dossier owes is not late, and a result that waits to be fetched is the applicant's turn. An apology is
# for the due date that it names as missed; one that came with a later date was for the date before. $1: the agencies.
# $2: now. $3: when today ends. $4: statuses that pause. $5: statuses of work. $6: rows of an agency.
OWED = """
SELECT unit.agency, late.codes AS late, late.unsaid, today.codes AS today
  FROM unnest($1::text[]) AS unit (agency)
 CROSS JOIN LATERAL (
           SELECT array_agg(code ORDER BY due_at)                       AS codes,
                  array_agg(code ORDER BY due_at) FILTER (WHERE unsaid) AS unsaid
             FROM (SELECT t.code, t.due_at,
                          d.due_at < $2
                          AND d.status = ANY ($5)
                          AND NOT EXISTS (SELECT
                                            FROM paper
                                           WHERE paper.code = t.code
                                             AND form = 'apology'
                                             AND content->'due_before' IS NULL
                                             AND (content->>'due_at')::timestamptz = d.due_at) AS unsaid
                     FROM task AS t
                     JOIN dossier AS d ON d.code = t.code
                    WHERE t.agency = unit.agency
                      AND t.state IN ('open', 'asked')
                      AND t.kind <> 'hand_over'
                      AND t.due_at < $2
                      AND d.status <> ALL ($4)
                    ORDER BY t.due_at, t.code, t.number
                    LIMIT $6) AS found) AS late
 CROSS JOIN LATERAL (
           SELECT array_agg(code ORDER BY due_at) AS codes
             FROM (SELECT t.code, t.due_at
                     FROM task AS t
                     JOIN dossier AS d ON d.code = t.code
                    WHERE t.agency = unit.agency
                      AND t.state IN ('open', 'asked')
                      AND t.kind <> 'hand_over'
                      AND t.due_at >= $2
                      AND t.due_at < $3
                      AND d.status <> ALL ($4)
                    ORDER BY t.due_at, t.code, t.number
                    LIMIT $6) AS found) AS today
"""

# The condition on detail is that of the index event_beyond_a_rule. $1: the agencies. $2: since when. $3: rows of an
# agency.
BEYOND = """
SELECT unit.agency, found.code, found.detail
  FROM unnest($1::text[]) AS unit (agency)
 CROSS JOIN LATERAL (SELECT code, detail
                       FROM event
                      WHERE event.agency = unit.agency
                        AND recorded_at >= $2
                        AND detail LIKE '%"rules":%'
                      ORDER BY recorded_at DESC
                      LIMIT $3) AS found
"""


class UnitPages:
    """For heads and auditors; others find nothing here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.get(UNIT, self.unit)]

    async def unit(self, request: web.Request) -> web.Response:
        """Each agency of the scope in which something is late, due today, or beyond a rule. Raises Unavailable."""
        officer = officer_of(request)
        if not officer.roles & ROLES:
            raise NoSuchPath
        catalogue, today, now = await self._desk.catalogue.get(), self._desk.today(), datetime.now(UTC)
        scope = sorted(self._scope(officer, catalogue))
        month = datetime.combine(today.replace(day=1), time(), VIETNAM)
        ends = datetime.combine(today + timedelta(days=1), time(), VIETNAM)
        postgres, most = self._desk.postgres, MOST_COUNTED + 1
        owed = await postgres.fetch(OWED, scope, now, ends, _PAUSED, _WORKED_ON, most)
        beyond: defaultdict[str, list[Any]] = defaultdict(list)
        for row in await postgres.fetch(BEYOND, scope, month, most):
            beyond[row["agency"]].append(row)
        units = sorted(owed, key=lambda row: (-len(row["late"] or ()), row["agency"]))
        told = [(row["agency"], _owed(row) | _exceeded(beyond[row["agency"]])) for row in units]
        found = [(agency, findings) for agency, findings in told if findings]
        context = {
            "here": UNIT,
            "units": [
                {
                    "name": catalogue.agency_view(agency).name or agency,
                    "findings": [(words, *_counted(codes_found)) for words, codes_found in findings.items()],
                }
                for agency, findings in found[:AGENCIES]
            ],
            "more": len(found) > AGENCIES,
            "most": AGENCIES,
            "month": f"{today:%m/%Y}",
        }
        return page(request, "unit.html", context)

    def _scope(self, officer: Officer, catalogue: Catalogue) -> set[str]:
        below = {code for code in catalogue.agencies if covers(catalogue, officer.agency, code)}
        return below | self._desk.office(officer)


_PAUSED: Final = [status.value for status in Status if status.paused]
_WORKED_ON: Final = [status.value for status in (Status.RECEIVED, Status.PROCESSING)]


def _owed(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is said of tasks → the codes, one for each task."""
    return {WORDS[f"unit.{name}"]: row[name] for name in ("late", "today", "unsaid") if row[name]}


def _exceeded(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The rule, and whether a reason was given or a warning passed over → the codes, one for each time."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        detail = msgspec.json.decode(row["detail"], type=dict[str, Any])
        word = WORDS["unit.override" if "override" in detail else "unit.warning"]
        for each in detail.get("rules", ()):
            rule = WORDS.get(f"rule.{each['rule']}", each["rule"]).format(value=each["value"])
            found[word.format(rule=rule)].append(row["code"])
    return dict(sorted(found.items()))


def _counted(found: Sequence[str]) -> tuple[str, list[tuple[str, str]], bool]:
    """How many, the first of their codes with addresses, and whether there are more."""
    named = list(dict.fromkeys(found))
    n = str(len(found)) if len(found) <= MOST_COUNTED else f"{MOST_COUNTED}+"
    return n, [(code, f"{DOSSIER}/{codes.parse(code).path}") for code in named[:CODES]], len(named) > CODES
