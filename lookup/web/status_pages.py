"""A dossier's page, for anyone or for the holder of its lookup key."""

from datetime import datetime
from typing import Any

from aiohttp import hdrs, web

from lookup import code as codes
from lookup.clock import VIETNAM, moment
from lookup.dossier import Record
from lookup.reading.reader import Found
from lookup.status import Status
from lookup.web.answers import Answers
from lookup.web.layout import FORMS, date_of, language, page
from lookup.web.phrases import due_phrase, status_words

SOON_DAYS = 2
"""Days before the due date from which the page says it is soon."""


def dossier_page(
    answers: Answers,
    request: web.Request,
    found: Found,
    *,
    holder: bool,
    key_problem: str | None = None,
    status: int = 200,
) -> web.Response:
    lang = language(request)
    record = found.record
    path = codes.parse(record.code).path
    words = status_words(Status(record.status).slug, lang)
    dossier = {
        "code": record.code,
        "status": Status(record.status).slug,
        "status_number": record.status,
        "status_name": words.name,
        "status_explained": words.explained,
        "next_step": words.next_step,
        "final": Status(record.status).final,
        "completion": Status(record.status).completion,
        "due": None,
        "stale": found.stale,
        "as_of": f"{moment(found.as_of).astimezone(VIETNAM):%H:%M:%S %d/%m/%Y}",
        "holder": _holder(answers, record, lang) if holder else None,
        "key_form_url": f"{FORMS[lang]}/{path}",
        "key_problem": key_problem,
    }
    if holder or answers.shows_due:
        dossier |= _due(record, moment(found.as_of), lang, hour=holder)
    response = page(request, "status.html", {"dossier": dossier, "page_url": f"{FORMS[lang]}/{path}"}, status)
    if not holder and not found.stale and status == 200:
        response.headers[hdrs.CACHE_CONTROL] = "private, no-cache"
    response.headers[hdrs.LINK] = f'<{FORMS[lang]}/{path}>; rel="canonical"'
    return response


def _holder(answers: Answers, record: Record, lang: str) -> dict[str, Any]:
    name = "name" if lang == "vi" else "name_en"
    agency = answers.catalogue.agency_view
    return {
        "service": answers.catalogue.service_view(record.service)[name] or record.service,
        "agency": agency(record.agency)[name] or record.agency,
        "official_number": record.official_number,
        "received": date_of(record.received_at),
        "finished": date_of(record.finished_at),
        "returned": date_of(record.returned_at),
        "action_needed": record.action_needed,
        "timeline": [
            {
                "at": date_of(step.at),
                "status_name": status_words(step.status, lang).name,
                "agency": agency(step.agency)[name] or step.agency,
                "department": step.department,
            }
            for step in record.timeline
        ],
    }


def _due(record: Record, now: datetime, lang: str, *, hour: bool) -> dict[str, str | None]:
    """The due date, with its hour or without, and while the time limit runs its distance from now.

    That is counted by day in Vietnam, as on-time is judged.
    """
    due = date_of(record.due_at)
    due = due if hour or due is None else due.partition(" ")[2]
    status = Status(record.status)
    if record.due_at is None or record.finished_at is not None or status.final or status.paused:
        return {"due": due, "due_state": None, "due_phrase": None}
    days = (record.due_at.astimezone(VIETNAM).date() - now.astimezone(VIETNAM).date()).days
    state = "overdue" if days < 0 else "soon" if days <= SOON_DAYS else "on_time"
    return {"due": due, "due_state": state, "due_phrase": due_phrase(days, lang)}
