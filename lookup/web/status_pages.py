"""A dossier's page, for anyone or for the holder of its lookup key.

What is true stands in a Situation (lookup/situation.py); this module puts it into words. `page_context` keeps two
things apart, so that a page can be made once and filled in for each dossier:

- the **shape** decides which text stands where: language, situation, stale or not, maintenance, asked for by number.
  Two shapes that are equal give the same page but for the words.
- the **words** are plain strings that are printed as they are: code, number, dates, the number of days, the contact.
  Nothing looks at a word: the template and this function neither slice, compare nor transform it, so that a mark may
  stand in its place. All are escaped by the template, except `contact`, which is HTML already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import hdrs, web
from markupsafe import Markup, escape

from lookup import code as codes
from lookup.catalogue import Catalogue, Named
from lookup.clock import VIETNAM, moment
from lookup.code import DossierCode
from lookup.dossier import Record, Step
from lookup.maintenance import Notice, Part
from lookup.reading.reader import Found
from lookup.situation import REASONED, STANDING, Due, Finished, Sight, Situation, situation
from lookup.status import Status
from lookup.web.answers import Answers
from lookup.web.contacts import Contact, contact_of
from lookup.web.dates import day_of, hour_of, machine_day, machine_time, when
from lookup.web.layout import FORMS, other_language, page_of
from lookup.web.phrases import PHRASES
from lookup.web.problem_pages import KeyFault

ANNOUNCED_AHEAD = timedelta(hours=24)
"""How long before its begin a maintenance is announced on the page of a dossier."""

MINUTE = 60_000_000
"""Microseconds of a minute: as_of is told by the minute, rounded down, so that it is never later than what is known."""

_TONES = {Due.LEFT: "on_time", Due.TOMORROW: "soon", Due.TODAY: "soon", Due.PAST_HOUR: "overdue", Due.READY: "on_time"}
_TONES |= {Due.OVERDUE: "overdue", Due.OVERDUE_BY_ONE: "overdue"}
_BY_ONE = frozenset({Due.OVERDUE_BY_ONE})
_OVERDUE = frozenset({Due.OVERDUE, Due.OVERDUE_BY_ONE})
_UNTAGGED = frozenset({Due.PLAIN, Due.HELD, Due.TODAY})
_WITH_CONTACT = frozenset({"1", "2T", "2o", "3", "4T", "4o", "4c", "4co", "5", "5b", "6", "7", "8", "9e", "9r", "10s"})
"""Cases whose text ends in whom to call; in all others the contact stands at the end of the page."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that decides which text stands where on a page for anyone. Hashable; numbers of days are no part."""

    lang: str
    situation: Situation
    stale: bool = False
    maintenance: str | None = None
    """The line about a maintenance that matters here."""
    by_number: bool = False
    """Whether it was asked for by official number, under which its links then stay."""
    acceptance_hours: int = 8
    """Working hours within which an online application is answered; 0: not told."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is printed of one dossier at one moment. Those that the shape has no use for are not looked at."""

    code: str
    """As printed on the receipt."""
    address: str
    """The last part of the page's address: the code's path, or that of the number it was asked for by."""
    as_of: str
    as_of_time: str
    """As `<time datetime>` has it, as all `_time`."""
    contact: Markup | str
    number: str = ""
    due: str = ""
    due_time: str = ""
    days: str = ""


def page_context(shape: Shape, words: Words) -> dict[str, Any]:
    """The variables of status.html for anyone; the holder's page adds to them. See the module for the contract."""
    lang, now, t = shape.lang, shape.situation, PHRASES[shape.lang]
    prominent = now.case in _WITH_CONTACT and not (now.case == "1" and not shape.acceptance_hours)
    has_due = now.due is not Due.NONE
    return {
        "code": words.code,
        "number": words.number,
        "by_number": shape.by_number,
        "case": now.case,
        "status_name": t[f"status.{now.status.slug}.name"],
        "lead": _lead(now, words, t),
        "do": _do(shape),
        "ask": t.get(f"case.{now.case}.ask"),
        "to_do": now.to_do,
        "content": t["case.content"] if now.case in ("9", "9e") else None,
        "due": words.due if has_due else None,
        "due_time": words.due_time,
        "due_label": t[
            "due.label.held" if now.due is Due.HELD else "due.label.overdue" if now.due in _OVERDUE else "due.label"
        ],
        "due_held": now.due is Due.HELD,
        "due_stands": now.due in STANDING,
        "due_tag": t[f"due.tag.{now.due.value}"].format(n=words.days) if has_due and now.due not in _UNTAGGED else None,
        "due_tone": _TONES.get(now.due),
        "note": t[f"due.note.{now.note.value}"] if now.note else None,
        "was_late": _was_late(now, lang),
        "finished": None,
        "returned": None,
        "progress": _progress(now, t),
        "stale": shape.stale,
        "maintenance": shape.maintenance,
        "as_of": words.as_of,
        "as_of_time": words.as_of_time,
        "prominent": prominent,
        "contact": words.contact,
        "page_url": f"{FORMS[lang]}/{words.address}",
        "other_url": f"{FORMS[other_language(lang)]}/{words.address}",
        "dossier": {"key_form_url": f"{FORMS[lang]}/{words.address}", "key_problem": None},
        "holder": None,
    }


def _lead(now: Situation, words: Words, t: Mapping[str, str]) -> str:
    key = f"case.{now.case}.lead"
    return t[f"{key}.one"] if now.due in _BY_ONE and f"{key}.one" in t else t[key].format(n=words.days)


def _do(shape: Shape) -> Markup:
    case, t = shape.situation.case, PHRASES[shape.lang]
    key = f"case.{case}.do"
    if case == "1" and not shape.acceptance_hours:
        key += ".no_hours"
    paper = Markup('<span lang="vi">{}</span>').format(t.get(f"paper.{case}", ""))
    return escape(t[key]).format(hours=shape.acceptance_hours, paper=paper)


def _was_late(now: Situation, lang: str) -> str | None:
    """That it was late before a pause, although the date that was late has been replaced since."""
    late = now.was_late
    if late is None:
        return None
    key = {0: "due.was_late.hour", 1: "due.was_late.one"}.get(late.days, "due.was_late")
    return PHRASES[lang][key].format(day=day_of(late.since, lang), n=late.days)


def _progress(now: Situation, t: Mapping[str, str]) -> dict[str, Any]:
    way = now.progress

    def name(slug: str) -> str:
        return t[f"step.{slug}"] if f"step.{slug}" in t else t[f"status.{slug}.name"]

    return {
        "done": [name(slug) for slug in way.done],
        "present": t[f"status.{way.present}.name"],
        "present_done": way.present_done,
        "ahead": [name(slug) for slug in way.ahead],
        "tag": t[f"step.tag.{way.stands.value}"],
        "percent": way.percent,
    }


# -- from a dossier that was found --------------------------------------------------------------------------


def dossier_page(
    answers: Answers,
    lang: str,
    found: Found,
    code: DossierCode,
    *,
    holder: bool,
    maintenance: tuple[Notice, bool] | None = None,
    fault: KeyFault | None = None,
    told: str | None = None,
    status: int = 200,
) -> web.Response:
    """The page of the dossier found under `code`, which may be its official number.

    `fault`: what is wrong with a key that was typed; `told`: what has been done.
    """
    record = found.record
    context = context_of(answers, found, code, lang, holder=holder, maintenance=maintenance)
    context["told"] = told
    if fault is not None:
        context["dossier"] |= {"key_problem": fault.text, "key_typed": fault.typed}
        context |= {"errors": [{"text": fault.text, "href": "#key"}], "below": PHRASES[lang]["key.below"]}
    response = page_of(lang, None, "status.html", context, status)
    response.headers[hdrs.LINK] = f'<{FORMS[lang]}/{codes.parse(record.code).path}>; rel="canonical"'
    return response


def context_of(
    answers: Answers,
    found: Found,
    code: DossierCode,
    lang: str,
    *,
    holder: bool = False,
    maintenance: tuple[Notice, bool] | None = None,
) -> dict[str, Any]:
    """The variables of status.html, for anyone or for the holder."""
    shape, words = parts(answers, found, code, lang, holder=holder, maintenance=maintenance)
    context = page_context(shape, words)
    return context | _holders(answers, found.record, moment(found.as_of), shape) if holder else context


def parts(
    answers: Answers,
    found: Found,
    code: DossierCode,
    lang: str,
    *,
    holder: bool = False,
    maintenance: tuple[Notice, bool] | None = None,
) -> tuple[Shape, Words]:
    """The shape and the words of a dossier's page."""
    record = found.record
    as_of = moment(found.as_of - found.as_of % MINUTE)
    # A stale answer is judged by what is known, but at the moment it is read.
    at = moment(found.as_of + found.age) if found.stale else as_of
    sight = Sight.ALL if holder else Sight.DAY if answers.shows_due else Sight.NOTHING
    now = situation(record, at, sight=sight, policy=_policy(answers.catalogue, record), stale=found.stale)
    shape = Shape(
        lang,
        now,
        stale=found.stale,
        maintenance=_maintenance_line(maintenance, at, now, lang),
        by_number=code.text != record.code,
        acceptance_hours=answers.acceptance_hours,
    )
    due, due_time = _due_words(record.due_at, now.due, sight, lang)
    words = Words(
        code=record.code,
        address=code.path,
        number=code.text,
        as_of=when(as_of, lang),
        as_of_time=machine_time(as_of),
        contact=answers.contacts.block(codes.parse(record.code).agency, as_of.astimezone(VIETNAM).date(), lang),
        due=due,
        due_time=due_time,
        days=str(now.days),
    )
    return shape, words


def _policy(catalogue: Catalogue, record: Record) -> str | None:
    """What the service's clock does today after such a pause; None while the catalogue does not know the service."""
    service = catalogue.services.get(record.service)
    return None if service is None else service.clock_after(record.status)


def _due_words(due_at: datetime | None, due: Due, sight: Sight, lang: str) -> tuple[str, str]:
    """The due date as it is printed and as a machine reads it: with its hour for the holder alone."""
    if due_at is None or due is Due.NONE:
        return "", ""
    day, hour = day_of(due_at, lang), hour_of(due_at)
    if sight is not Sight.ALL:
        text = PHRASES[lang]["due.today.day"].format(day=day) if due is Due.TODAY else day
        return text, machine_day(due_at)
    text = PHRASES[lang]["due.today"].format(hour=hour, day=day) if due is Due.TODAY else when(due_at, lang)
    return text, machine_time(due_at)


_MATTERS = (Part.LOOKUP, Part.UPDATES, Part.INTAKE)


def _maintenance_line(announced: tuple[Notice, bool] | None, at: datetime, now: Situation, lang: str) -> str | None:
    """One line about a maintenance that runs, or begins within a day, and matters to this dossier; None for none."""
    if announced is None:
        return None
    notice, running = announced
    if not running and not at <= notice.starts_at <= at + ANNOUNCED_AHEAD:
        return None
    matters = {Part.LOOKUP: True, Part.UPDATES: now.open, Part.INTAKE: now.case in ("5", "5b")}
    part = next((part.value for part in _MATTERS if part in notice.affects and matters[part]), None)
    if part is None:
        return None
    t = PHRASES[lang]
    if running:
        text = t[f"maintenance.status.{part}"].format(when=when(notice.ends_at, lang))
    else:
        start, end = when(notice.starts_at, lang), when(notice.ends_at, lang)
        text = t[f"maintenance.status.coming.{part}"].format(start=start, end=end)
    return f"{text} {t[f'maintenance.effect.{part}']}"


# -- what only the holder sees ------------------------------------------------------------------------------


def _holders(answers: Answers, record: Record, at: datetime, shape: Shape) -> dict[str, Any]:
    """What the holder's page has besides anyone's."""
    lang, now, t = shape.lang, shape.situation, PHRASES[shape.lang]
    found: dict[str, Any] = {"holder": _holder(answers.catalogue, record, at, now, lang)}
    if now.status is Status.COMPLETED and record.finished_at:
        found["finished"] = _moment(record.finished_at, lang) | {"tag": None}
        if now.finished:
            key = f"finished.{now.finished.value}"
            tag = t.get(f"{key}.one", t[key]) if now.finished_days == 1 else t[key]
            tone = "overdue" if now.finished is Finished.LATE else "on_time"
            found["finished"] |= {"tag": tag.format(n=now.finished_days), "tone": tone}
    if now.status is Status.RETURNED and record.returned_at:
        label = t["returned.label.stopped" if now.case == "10s" else "returned.label"]
        found["returned"] = _moment(record.returned_at, lang) | {"label": label}
    return found


def _holder(catalogue: Catalogue, record: Record, at: datetime, now: Situation, lang: str) -> dict[str, Any]:
    steps = sorted(record.timeline, key=lambda step: step.at)
    last = next((step for step in reversed(steps) if step.moves), None)
    present = last is not None and last.status == now.status.slug
    return {
        "note": record.action_needed,
        "reason": record.reason if now.case in REASONED else None,
        "rows": _rows(catalogue, record, lang),
        "since": _moment(last.at, lang) if last is not None and present else None,
        "now_with": _now_with(catalogue, record, at, lang),
        "timeline": [
            _moment(step.at, lang)
            | {
                "status_name": PHRASES[lang][f"status.{step.status}.name"],
                "agency": _name(catalogue.agency_view(step.agency), lang),
                "department": step.department,
                "work": step.work,
                "due": _due_of_step(step, lang),
                "late": step.late,
            }
            for step in steps
        ],
        "left_out": bool(steps) and not present,
    }


def _due_of_step(step: Step, lang: str) -> dict[str, Any] | None:
    """The due date that a step set, if any: of a task, or by a re-appointment of the whole dossier."""
    if step.due_at is None:
        return None
    key = "holder.put_off" if step.task is None else "holder.task_due"
    return _moment(step.due_at, lang) | {"label": PHRASES[lang][key]}


def _rows(catalogue: Catalogue, record: Record, lang: str) -> list[dict[str, Any]]:
    texts = {
        "service": _name(catalogue.service_view(record.service), lang),
        "agency": _name(catalogue.agency_view(record.agency), lang),
        "origin": _origin(catalogue, record, lang),
        "official_number": record.official_number,
    }
    t = PHRASES[lang]
    rows = [
        {"label": t[f"holder.{key}"], "text": text, "time": None, "code": key == "official_number"}
        for key, text in texts.items()
        if text
    ]
    for key, at in (
        ("received", record.received_at),
        ("finished", record.finished_at),
        ("returned", record.returned_at),
    ):
        if at:
            rows.append({"label": t[f"holder.{key}"], "text": when(at, lang), "time": machine_time(at), "code": False})
    return rows


def _origin(catalogue: Catalogue, record: Record, lang: str) -> str | None:
    """The agency that received it and hands the result over, where that is not the one that has it."""
    if record.origin is None or record.origin == record.agency:
        return None
    return _name(catalogue.agency_view(record.origin), lang)


def _now_with(catalogue: Catalogue, record: Record, at: datetime, lang: str) -> Contact | None:
    """The agency that has it now, where that is not the one its code begins with."""
    if record.agency == codes.parse(record.code).agency:
        return None
    contact = contact_of(catalogue, record.agency, at.astimezone(VIETNAM).date(), lang)
    return contact or Contact(_name(catalogue.agency_view(record.agency), lang))


def _name(named: Named, lang: str) -> str:
    """Its name in this language; its code before the catalogue was read."""
    return (named.name if lang == "vi" else named.name_en) or named.code


def _moment(at: datetime, lang: str) -> dict[str, Any]:
    return {"when": when(at, lang), "time": machine_time(at)}
