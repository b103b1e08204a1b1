"""Handing over: what was accepted and nobody works on yet goes to its department or agency, with a control slip each.

Handing over a dossier is its move to `processing`. Where the service's route begins with another agency's part, that
agency begins and the lead stays; else the officer names a department of the office, or the agency that leads from now
on.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from intake.books.ledger import KeyedRequest
from intake.desk.actions import targets
from intake.desk.forms import ONCE, Form, new_once, read_form
from intake.desk.frame import DOSSIER, Desk, may, officer_of, says_of
from intake.desk.layout import HANDOVER, page
from intake.desk.officers import Officer
from intake.desk.shown import moment_words, name_and_tail
from intake.desk.words import WORDS
from intake.refusals import KeyReused, ReasonRequired, StillRunning, UnknownDossier, VersionMismatch
from intake.rules.changes import IssuePaper
from intake.rules.requests import Transition, read_value
from intake.rules.workdays import Calendar, add_working_days, calendar_of
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.status import Status
from ops.errors import Kind, Malformed, Refusal, Unavailable
from ops.http.problems import HTTP_STATUS

ROWS: Final = 100
"""Dossiers of one hand-over."""
MOST_READ: Final = 500
"""Dossiers of all receivers that a page tells of."""
SINCE: Final = timedelta(days=31)
"""How long ago a dossier was accepted at most whose first part is another agency's: those have no task here."""
SAME_DAY_UNTIL: Final = time(15)
"""What is accepted before this hour is handed over on the same day, other dossiers on the next working day (Decree
61/2018 art. 18)."""

# Each dossier is read by itself: a join would read them all where an office has thousands of tasks. The conditions on
# events are those of the index event_of_a_day. $1: the office. $2: since when. $3: rows.
WAITING = """
WITH candidate AS (
    SELECT code
      FROM task
     WHERE agency = ANY ($1)
       AND state IN ('open', 'asked')
       AND kind = 'work'
     UNION
    SELECT code
      FROM event
     WHERE origin = ANY ($1)
       AND NOT bulk AND (occurred_at = received_at OR status IN (3, 5, 10))
       AND occurred_at >= $2
       AND occurred_at = received_at
)
SELECT d.code, d.version, d.service, d.received_at, d.applicant_name, d.applicant_id, begins.agency, begins.work
  FROM candidate
 CROSS JOIN LATERAL (SELECT *
                       FROM dossier
                      WHERE dossier.code = candidate.code
                     OFFSET 0) AS d
  LEFT JOIN LATERAL (SELECT agency, work
                       FROM task
                      WHERE task.code = d.code
                        AND state IN ('open', 'asked')
                      ORDER BY number
                      LIMIT 1) AS begins ON true
 WHERE d.status = 2
   AND d.agency = ANY ($1)
   AND d.origin = ANY ($1)
   AND NOT d.removed
 ORDER BY d.received_at, d.code
 LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What became of one dossier. `slip`: the address of its control slip. `why`: what is missing of both."""

    code: DossierCode
    done: bool = False
    slip: str | None = None
    why: str | None = None


class HandOverPages:
    """For officers who may move dossiers; others find nothing here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.get(HANDOVER, self.waiting), web.post(HANDOVER, self.hand_over)]

    async def waiting(self, request: web.Request) -> web.Response:
        """The dossiers that wait to be handed over to one receiver, `den`: an agency, or without it the office's own.

        Names are shown, so the read is logged first. Raises Unavailable.
        """
        may(request, "move")
        return await self._waiting(request, request.query.get("den", ""))

    async def hand_over(self, request: web.Request) -> web.Response:
        """Hand over each chosen dossier; the answer says of each what became of it. One refusal stops no other one.

        The same form sent again does nothing twice. While PostgreSQL is away the rest is not tried. A form that says
        nothing of where to, or chooses none, is shown again.
        """
        officer = may(request, "move")
        form = await read_form(request)
        once = uuid.UUID(form.keyed(officer).key)
        chosen = _chosen(form)
        try:
            fields = _where_to(form, chosen)
            asked = [(code, read_value(fields | {"expected_version": version}, Transition)) for code, version in chosen]
        except Refusal as refusal:
            if refusal.kind not in (Kind.INVALID, Kind.UNPROCESSABLE):
                raise
            return await self._waiting(request, form.get("den", ""), form, refusal)
        catalogue = await self._desk.catalogue.get()
        found: list[HandedOver] = []
        away = False
        for code, transition in asked:
            if away:
                found.append(HandedOver(code, why=WORDS["hand_over.away"]))
                continue
            handed, away = await self._handed_over(officer, once, code, transition, catalogue)
            found.append(handed)
        return page(request, "handed_over.html", {"here": HANDOVER, "found": found, "dossier_url": DOSSIER})

    async def _handed_over(
        self, officer: Officer, once: uuid.UUID, code: DossierCode, transition: Transition, catalogue: Catalogue
    ) -> tuple[HandedOver, bool]:
        """One dossier: the move, then its slip, each done once. Whether PostgreSQL was away, too."""
        done = False
        try:
            moved = _keyed(officer, once, code, transition, "processing")
            await self._desk.ledger.move(moved, code, transition, catalogue)
            done = True
            told = await self._desk.ledger.one_stop(
                _keyed(officer, once, code, transition, "control"),
                code,
                IssuePaper(form="control"),
                officer=officer.name,
                expected_version=None,
                catalogue=catalogue,
            )
        except Refusal as refusal:
            word = next((word for kind, word in _SAYS.items() if isinstance(refusal, kind)), None)
            why = says_of(refusal) if word is None else WORDS[word]
            return HandedOver(code, done, why=why), isinstance(refusal, Unavailable)
        (paper,) = told["papers"]
        slip = f"{DOSSIER}/{code.path}/giay/{paper['version']}.pdf"
        return HandedOver(code, done, slip), False

    async def _waiting(
        self, request: web.Request, receiver: str, typed: Form | None = None, refusal: Refusal | None = None
    ) -> web.Response:
        officer, catalogue = officer_of(request), await self._desk.catalogue.get()
        office, now, today = sorted(self._desk.office(officer)), datetime.now(UTC), self._desk.today()
        rows = await self._desk.postgres.fetch(WAITING, office, now - SINCE, MOST_READ + 1)
        receivers = _receivers(rows[:MOST_READ], office)
        shown = receivers.get(receiver, [])[:ROWS]
        await self._desk.read_logged(officer, [row["code"] for row in shown], "handover")
        calendar = calendar_of(catalogue, officer.agency)
        given = None if typed is None else {code.text for code, _ in _chosen(typed)}
        own = {"agency": officer.agency, "origin": officer.agency, "service": None}
        context = {
            "here": HANDOVER,
            "receiver": receiver,
            "name": _named(receiver, catalogue),
            "receivers": [(each, _named(each, catalogue), len(found)) for each, found in receivers.items()],
            "rows": [_row(row, today, calendar, catalogue, given) for row in shown],
            "more": len(rows) > MOST_READ or len(receivers.get(receiver, [])) > ROWS,
            "most": ROWS,
            "once": (typed.get(ONCE) if typed else None) or new_once(),
            "targets": [] if receiver else targets(own, catalogue, today),
            "office": _named(officer.agency, catalogue),
            "typed": typed or {},
            "wrong": None if refusal is None else says_of(refusal),
        }
        return page(request, "hand_over.html", context, status=200 if refusal is None else HTTP_STATUS[refusal.kind])


_SAYS: Final[Mapping[type[Refusal], str]] = {
    UnknownDossier: "problem.unknown_dossier",
    VersionMismatch: "hand_over.changed",
    StillRunning: "hand_over.running",
    KeyReused: "hand_over.sent",
    Unavailable: "hand_over.away",
}
"""What is said of refusals whose own sentences are for programs."""


def until(received_at: datetime, calendar: Calendar) -> date:
    """The day in Vietnam on which a dossier is to be handed over."""
    there = received_at.astimezone(VIETNAM)
    if there.time() < SAME_DAY_UNTIL and calendar.is_working_day(there.date()):
        return there.date()
    return add_working_days(there.date(), 1, calendar)


def _receivers(rows: Sequence[Mapping[str, Any]], office: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Who begins the work → the dossiers; the empty receiver, always there, is a department of the office."""
    found: dict[str, list[Mapping[str, Any]]] = {"": []}
    for row in rows:
        elsewhere = row["agency"] is not None and row["agency"] not in office
        found.setdefault(row["agency"] if elsewhere else "", []).append(row)
    return found


def _chosen(form: Form) -> list[tuple[DossierCode, int]]:
    """The dossiers that a form ticks, each once, with the versions that the officer saw. Raises Malformed."""
    found: dict[DossierCode, int] = {}
    for text in form.all("chosen"):
        code, _, version = text.rpartition(" ")
        if not version.isascii() or not version.isdecimal() or len(version) > 9:
            raise Malformed("chosen: expected a code and a version.")
        found.setdefault(codes.parse(code), int(version))
    if len(found) > ROWS:
        raise Malformed(f"chosen: {len(found)} dossiers are more than {ROWS}.")
    return list(found.items())


def _where_to(form: Form, chosen: Sequence[Any]) -> dict[str, Any]:
    """The fields of the move. Raises ReasonRequired for a form that says too little."""
    if not chosen:
        raise ReasonRequired("No dossier is chosen.", detail_vi=WORDS["hand_over.none_chosen"])
    fields = {name: form[name] for name in ("agency", "department") if form.get(name)}
    if not fields and not form.get("den"):
        raise ReasonRequired("It says nothing of where to.", detail_vi=WORDS["hand_over.no_receiver"])
    return {"to": Status.PROCESSING.slug} | fields


def _keyed(officer: Officer, once: uuid.UUID, code: DossierCode, transition: Transition, what: str) -> KeyedRequest:
    """One step of one dossier as a request of its own, whichever others the form names."""
    said = [officer.actor, HANDOVER, code.text, what, transition]
    key = str(uuid.uuid5(once, f"{code.text} {what}"))
    return KeyedRequest(officer.client(), key, hashlib.sha256(msgspec.json.encode(said)).digest())


def _named(agency: str, catalogue: Catalogue) -> str:
    return (catalogue.agency_view(agency).name or agency) if agency else WORDS["hand_over.department"]


def _row(
    row: Mapping[str, Any], today: date, calendar: Calendar, catalogue: Catalogue, given: set[str] | None
) -> dict[str, Any]:
    day = until(row["received_at"], calendar)
    word = "today" if day == today else "late" if day < today else "later"
    return {
        "code": row["code"],
        "version": row["version"],
        "href": f"{DOSSIER}/{codes.parse(row['code']).path}",
        "applicant": name_and_tail(row["applicant_name"], row["applicant_id"]),
        "service": catalogue.service_view(row["service"]).name or row["service"],
        "work": row["work"] or "",
        "received_at": moment_words(row["received_at"]),
        "until": WORDS[f"hand_over.until.{word}"].format(day=f"{day:%d/%m/%Y}"),
        "late": word == "late",
        "chosen": day <= today if given is None else row["code"] in given,
    }
