"""A dossier's page: what it is, what happened, its papers, and what the officer can do."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from intake.books import history, paper_rows
from intake.books.task_rows import tasks_in
from intake.desk import actions
from intake.desk.actions import carry_out, end_task, offered, steps_of, targets
from intake.desk.forms import new_once, read_form
from intake.desk.frame import DOSSIER, SHOWN_AGAIN, Desk, again, officer_of, says_of
from intake.desk.layout import answer, page, see_other
from intake.desk.shown import distance_words, hidden, moment_words, task_words
from intake.desk.words import WORDS
from intake.papers.given import SIGNS
from intake.papers.printing import Printer
from intake.refusals import PolicyAsks, VersionMismatch
from intake.rules.policies import value_of
from intake.rules.scope import may_change
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.status import Status
from ops.errors import NoSuchPath, Refusal
from ops.http.problems import HTTP_STATUS

log = logging.getLogger(__name__)

# An actor of the desk is `issuer|subject`; $1: the code.
NAMES = """
SELECT DISTINCT o.issuer || '|' || o.subject AS actor, o.name
  FROM event AS e
  JOIN officer AS o ON o.issuer || '|' || o.subject = e.actor
 WHERE e.code = $1
   AND e.source = 'desk'
"""
# The newest of each channel.
NOTICES = """
SELECT DISTINCT ON (channel) channel, state, ended_at
  FROM notice
 WHERE code = $1
   AND state <> 'superseded'
 ORDER BY channel, version DESC
"""

_OF_THE_APPLICANT: Final = ("id", "phone", "email", "address")


class DossierPages:
    """The page of one dossier, its forms and its papers; of a dossier out of scope as of one there is not."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.printer = Printer(desk.ledger, desk.keys, desk.public_url)

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        one = f"{DOSSIER}/{{code}}"
        return [
            web.get(one, self.dossier),
            web.post(f"{one}/lam/{{action}}", self.act),
            web.post(rf"{one}/viec/{{number:[0-9]{{1,2}}}}/{{step}}", self.step),
            web.get(one + r"/giay/{version:\d{1,9}}.pdf", self.paper),
        ]

    async def dossier(self, request: web.Request) -> web.Response:
        """The dossier with what the officer may do. The read is logged first; `day-du` shows the applicant whole.

        Raises UnknownDossier, also where the officer may not read; Unavailable, also while the log cannot be written.
        """
        officer, code = officer_of(request), codes.parse(request.match_info["code"])
        catalogue = await self._desk.catalogue.get()
        row = await self._desk.ledger.officers_view(officer.client(), code, catalogue)
        postgres = self._desk.postgres
        events = [history.told(event) for event in await postgres.fetch(history.HISTORY, code.text)]
        names = {each["actor"]: each["name"] for each in await postgres.fetch(NAMES, code.text)}
        papers = await postgres.fetch(paper_rows.PAPERS, code.text)
        notices = await postgres.fetch(NOTICES, code.text)
        now, today = datetime.now(UTC), self._desk.today()
        status, new = Status(row["status"]), "moi" in request.query
        service = catalogue.services.get(row["service"])
        hours = value_of(service, "decision_hours")
        at = f"{DOSSIER}/{code.path}"
        context = {
            "code": code.text,
            "at": at,
            "version": row["version"],
            "once": new_once(),
            "service": catalogue.service_view(row["service"]).name or row["service"],
            "status": WORDS[f"status.{status.slug}"],
            "outcome": row["outcome"] and WORDS[f"outcome.{row['outcome']}"],
            "due": None if status.final else distance_words(row["due_at"], now, stands_still=status.paused),
            "due_at": moment_words(row["due_at"], weekday=True),
            "times": [(name, moment_words(row[name])) for name in ("submitted_at", "received_at", "finished_at")],
            "lead": _named(catalogue, row["agency"]),
            "origin": _named(catalogue, row["origin"]),
            "official_number": row["official_number"],
            "reason": row["action_needed"] or row["reason"],
            "applicant": _applicant(row, whole="day-du" in request.query),
            "whole": "day-du" in request.query,
            "tasks": [
                {
                    "number": task.number,
                    "agency": _named(catalogue, task.agency),
                    "work": task_words(task.kind, task.work, hours),
                    "due": moment_words(task.due_at),
                    "state": WORDS[f"task.state.{task.state}"],
                    "steps": steps_of(task, row, officer, catalogue, today),
                }
                for task in tasks_in(row["tasks"])
            ],
            "events": [_event(event, names, catalogue) for event in reversed(events)],
            "papers": [_paper(paper, at) for paper in reversed(papers)],
            "new": new,
            "unreached": any(notice["state"] == "dead" for notice in notices),
            "told": [
                (WORDS[f"channel.{notice['channel']}"], moment_words(notice["ended_at"]))
                for notice in notices
                if notice["state"] == "sent"
            ],
            "actions": offered(row, officer, catalogue, today),
            "targets": targets(row, catalogue, today),
            "may_correct": "correct" in officer.actions
            and may_change(catalogue, officer.agency, today, row["agency"], row["origin"], "key_reissued"),
        }
        return page(request, "dossier.html", context)

    async def act(self, request: web.Request) -> web.Response:
        """Do what a form asks for; then the dossier's page. A refusal shows the form again with what was typed."""
        name = request.match_info["action"]
        if name not in actions.ALL:
            raise NoSuchPath
        return await self._done(request, lambda *given: carry_out(name, *given))

    async def step(self, request: web.Request) -> web.Response:
        """End a task, or ask about it; otherwise as `act`."""
        number, step = int(request.match_info["number"]), request.match_info["step"]
        if step not in (*actions.TASK_STEPS, "ask"):
            raise NoSuchPath
        return await self._done(request, lambda *given: end_task(number, step, *given))

    async def _done(self, request: web.Request, work: Any) -> web.Response:
        officer, code = officer_of(request), codes.parse(request.match_info["code"])
        form = await read_form(request)
        at = f"{DOSSIER}/{code.path}"
        try:
            told: Mapping[str, Any] = await work(form, code, self._desk, officer)
        except VersionMismatch:
            return await self._desk.stale(request, code, form)
        except Refusal as refusal:
            if refusal.kind not in SHOWN_AGAIN:
                raise
            link = {"href": at, "says": WORDS["stale.look"]}
            return again(
                request,
                form,
                WORDS["problem.title"],
                [says_of(refusal)],
                link=link,
                status=HTTP_STATUS[refusal.kind],
                asks=isinstance(refusal, PolicyAsks),
            )
        return see_other(f"{at}?moi=1" if told.get("papers") else at)

    async def paper(self, request: web.Request) -> web.Response:
        """A paper as PDF; read and print are logged. Raises as Printer.paper."""
        officer, code = officer_of(request), codes.parse(request.match_info["code"])
        version = int(request.match_info["version"])
        made = await self.printer.paper(officer.client(), code, version, await self._desk.catalogue.get())
        return answer(request, made, "application/pdf", name=f"{code.path}-{version}.pdf")


def _named(catalogue: Catalogue, agency: str) -> str:
    return catalogue.agency_view(agency).name or agency


def _applicant(row: Any, *, whole: bool) -> list[tuple[str, str]]:
    """The applicant's name, and the rest whole or with its ends only."""
    rest = [(f"field.{name}", row[f"applicant_{name}"] or "") for name in _OF_THE_APPLICANT]
    return [
        ("field.name", row["applicant_name"] or "–"),
        *((word, text if whole else hidden(text)) for word, text in rest if text),
        *([("field.subject", row["subject"])] if row["subject"] else []),
    ]


def _event(event: Mapping[str, Any], names: Mapping[str, str], catalogue: Catalogue) -> dict[str, Any]:
    by = event["officer"] or event["source"]
    moved = event["kind"] in ("received", "moved")
    what = WORDS[f"status.{event['status']}" if moved else f"event.{event['kind']}"]
    said = [event["note"], *event["items"], event["override"] and f"{WORDS['field.override']} {event['override']}"]
    task = event["task"]
    if task is not None:
        what = f"{what} {task['number']}"
        said += [task["work"], task["reason"]]
    elsewhere = event["came_from"] is not None and event["agency"]
    return {
        "at": moment_words(event["at"]),
        "what": what,
        "by": names.get(by, by),
        "where": _named(catalogue, event["agency"]) if elsewhere else None,
        "due": moment_words(event["due_at"]) if event["kind"] == "due_changed" else None,
        "says": [text for text in said if text],
        "corrected": [WORDS.get(f"field.{name}", name) for name in event["corrected"]],
    }


def _paper(row: Any, at: str) -> dict[str, Any]:
    return {
        "number": f"{row['number']:04}/{SIGNS[row['form']]}",
        "name": WORDS[f"paper.{row['form']}"],
        "issued_at": moment_words(row["issued_at"]),
        "href": None if row["erased_at"] else f"{at}/giay/{row['version']}.pdf",
    }
