"""How the desk's pages write dates, persons and tasks. No I/O."""

from datetime import date, datetime
from typing import Any, Final

from intake.desk.words import WORDS
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM

_WEEKDAYS: Final = ("thứ Hai", "thứ Ba", "thứ Tư", "thứ Năm", "thứ Sáu", "thứ Bảy", "Chủ nhật")


def due_words(due_at: datetime | None, now: datetime, *, stands_still: bool = False) -> str:
    """When it is due, as seen from now: by days and hours in Vietnam. `stands_still`: its clock does."""
    if stands_still:
        return WORDS["due.paused"]
    if due_at is None:
        return WORDS["due.none"]
    there, here = due_at.astimezone(VIETNAM), now.astimezone(VIETNAM)
    days = (there.date() - here.date()).days
    if there < here:
        word = WORDS["due.late.days"] if days < 0 else WORDS["due.late.today"]
        return word.format(days=-days, time=f"{there:%H:%M}")
    word = {0: WORDS["due.today"], 1: WORDS["due.tomorrow"]}.get(days, WORDS["due.later"])
    return word.format(time=f"{there:%H:%M}", day=f"{there:%d/%m/%Y}")


def distance_words(due_at: datetime | None, now: datetime, *, stands_still: bool = False) -> str:
    """The same beside the date itself: how many days there are still."""
    days = 0 if due_at is None else (due_at.astimezone(VIETNAM).date() - now.astimezone(VIETNAM).date()).days
    return (
        due_words(due_at, now, stands_still=stands_still)
        if stands_still or days < 2
        else WORDS["due.left"].format(days=days)
    )


def moment_words(at: datetime | None, *, weekday: bool = False) -> str:
    """A moment in Vietnam: "09:41 ngày 07/12/2026", with its day of the week if that is wanted; empty for none."""
    if at is None:
        return ""
    there = at.astimezone(VIETNAM)
    day = _WEEKDAYS[there.weekday()] if weekday else "ngày"
    return f"{there:%H:%M} {day} {there:%d/%m/%Y}"


def name_and_tail(name: str | None, number: str | None) -> str:
    """A person in a list: the name, and the last three characters of the number that tell two of a name apart."""
    tail = f" ·{number[-3:]}" if number else ""
    return f"{name or '–'}{tail}"


def hidden(text: str | None) -> str:
    """A number or address of which only the end is shown."""
    if not text:
        return ""
    shown = 3 if len(text) > 5 else 0
    return "•" * (len(text) - shown) + text[len(text) - shown :]


def task_words(kind: str, work: str, decision_hours: int) -> str:
    """What has to be done; `work` is empty for the one-stop's own path."""
    named = WORDS[f"task.{kind}"].format(hours=decision_hours)
    return f"{named}: {work}" if work else named


def office_on_paper(catalogue: Catalogue, agency: str, day: date) -> dict[str, Any]:
    """An office as papers without a number name it, as intake/papers/given.py takes it."""
    known = catalogue.agencies.get(agency)
    contact = catalogue.contact_of(agency, day)
    return {
        "name": known.name_vi if known else agency,
        "above": catalogue.agency_view(known.parent).name if known and known.parent else None,
        "phone": contact.hotline if contact else None,
    }
