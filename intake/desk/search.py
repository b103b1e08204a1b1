"""Search: by a code or number wherever it stands in the text, by the end of an id or telephone number, by a name."""

import re
from datetime import UTC, date, datetime
from typing import Any, Final

from aiohttp import web

from intake.desk.frame import DOSSIER, Desk, officer_of
from intake.desk.layout import SEARCH, page, see_other
from intake.desk.officers import Officer
from intake.desk.shown import distance_words, moment_words, name_and_tail
from intake.desk.words import WORDS
from intake.refusals import UnknownDossier
from intake.rules.folding import folded, tail
from intake.rules.scope import side_of
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.code import DossierCode, MalformedCode
from lookup.status import Status
from ops.errors import NoSuchPath

ROWS: Final = 20
LONGEST: Final = 300
"""Characters of a search that are looked at."""
FEW: Final = 40
"""Agencies of which a name is looked for in a whole year; of more it is in DAYS_OF_MANY."""
DAYS, DAYS_OF_MANY = 366, 31

_ENDS_IN: Final = re.compile(r"[0-9][0-9 .-]*")

NUMBERED = """
SELECT code
  FROM dossier_number
 WHERE number = $1
"""

_SHOWN = """
SELECT f.code, d.status, d.service, d.due_at, d.submitted_at, d.applicant_name, d.applicant_id
  FROM found AS f
  JOIN dossier AS d ON d.code = f.code
 WHERE NOT d.removed
   AND NOT EXISTS (SELECT FROM hold AS h WHERE h.code = f.code AND h.kind = 'restricted' AND h.lifted_at IS NULL)
 ORDER BY d.submitted_at DESC, f.code
 LIMIT $3
"""

# $1: agencies. $2: patterns that the name's words fit. $3: rows. $4: days. Of each agency the newest, from its index.
BY_NAME = f"""
WITH found AS (
    SELECT s.code
      FROM unnest($1::text[]) AS office (agency)
     CROSS JOIN LATERAL (SELECT code
                           FROM applicant_search
                          WHERE applicant_search.agency = office.agency
                            AND submitted_at > now() - $4 * interval '1 day'
                            AND ' ' || folded LIKE ALL ($2::text[])
                          ORDER BY submitted_at DESC
                          LIMIT $3) AS s
)
{_SHOWN}"""  # noqa: S608 - our own words

# $2: the digits backwards, as the only pattern.
BY_END = f"""
WITH found AS (
    SELECT code
      FROM applicant_search
     WHERE agency = ANY ($1)
       AND (id_tail LIKE ($2::text[])[1] OR phone_tail LIKE ($2::text[])[1])
       AND submitted_at > now() - $4 * interval '1 day'
     ORDER BY submitted_at DESC
     LIMIT $3
)
{_SHOWN}"""  # noqa: S608 - our own words


class SearchPages:
    """The search of the officers' own scope: what their agency received, and those below it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.get(SEARCH, self.search)]

    async def search(self, request: web.Request) -> web.Response:
        """A code or number leads to its dossier; anything else to a list, the newest first, whose read is logged first.

        What was typed is not stored. Raises Unavailable.
        """
        officer = officer_of(request)
        if "read" not in officer.actions:
            raise NoSuchPath
        typed = request.query.get("q", "")[:LONGEST]
        catalogue = await self._desk.catalogue.get()
        code = code_in(typed)
        if code is not None:
            code = await self._numbered(officer, code, catalogue)
            return see_other(f"{DOSSIER}/{code.path}")
        statement, patterns = what_is_meant(typed)
        rows: list[Any] = []
        agencies = agencies_below(catalogue, officer.agency, self._desk.today())
        days = DAYS if len(agencies) <= FEW else DAYS_OF_MANY
        if patterns:
            rows = await self._desk.postgres.fetch(statement, agencies, patterns, ROWS + 1, days)
        more, rows = len(rows) > ROWS, rows[:ROWS]
        await self._desk.read_logged(officer, [row["code"] for row in rows], "search")
        now = datetime.now(UTC)
        context = {
            "here": SEARCH,
            "search": typed,
            "rows": [_row(row, now, catalogue) for row in rows],
            "more": WORDS["search.more"].format(n=ROWS) if more else None,
            "none": WORDS["search.none" if patterns else "search.nothing"].format(days=days),
        }
        return page(request, "search.html", context)

    async def _numbered(self, officer: Officer, code: DossierCode, catalogue: Catalogue) -> DossierCode:
        """The dossier of this official number where the officer may read it, else the code itself."""
        rows = await self._desk.postgres.fetch(NUMBERED, code.text)
        if not rows:
            return code
        numbered = codes.parse(rows[0]["code"])
        try:
            await self._desk.ledger.officers_view(officer.client(), numbered, catalogue)
        except UnknownDossier:
            return code
        return numbered


def code_in(text: str) -> DossierCode | None:
    """The only code in a text: the text itself, or a piece of an address or of what a scanner read."""
    pieces = [text, *re.split(r"[\s/?&#=]+", text)]
    found: dict[str, DossierCode] = {}
    for piece in pieces:
        try:
            code = codes.parse(piece)
        except MalformedCode:
            continue
        found[code.text] = code
    return next(iter(found.values())) if len(found) == 1 else None


def what_is_meant(text: str) -> tuple[str, list[str]]:
    """The statement for what was typed, and its patterns: none where there is nothing to look for.

    Three to twelve digits are the end of a number; else the words of a name that have two letters and more.
    """
    digits = tail(text) or ""
    if _ENDS_IN.fullmatch(text.strip()):
        return BY_END, [f"{digits}%"] if 3 <= len(digits) <= 12 else []
    return BY_NAME, [f"% {word}%" for word in folded(text).split() if len(word) >= 2]


def agencies_below(catalogue: Catalogue, agency: str, today: date) -> list[str]:
    """The agencies whose dossiers an officer of this one may read as their receiver's side."""
    return sorted(code for code in catalogue.agencies if agency in side_of(catalogue, code, today))


def _row(row: Any, now: datetime, catalogue: Catalogue) -> dict[str, Any]:
    status = Status(row["status"])
    service = catalogue.service_view(row["service"])
    due = "" if status.final else distance_words(row["due_at"], now, stands_still=status.paused)
    return {
        "code": row["code"],
        "href": f"{DOSSIER}/{codes.parse(row['code']).path}",
        "applicant": name_and_tail(row["applicant_name"], row["applicant_id"]),
        "service": service.name or service.code,
        "submitted_at": moment_words(row["submitted_at"]),
        "status": WORDS[f"status.{status.slug}"],
        "due": due,
    }
