"""The dialects in which other systems write a dossier with its history: one module each.

A dialect turns one line into a History, or refuses it with one of REASONS. No I/O. docs/imports.md says what is kept.
"""

import re
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from intake.rules.texts import UnclearText, clean, repeated_key
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.status import Status

YEARS = range(1990, 2100)
"""The years that a date of a dossier can have."""


class Refused(Exception):
    """A line that cannot be imported; `reason` is a key of REASONS, `detail` says what is wrong with the line."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


REASONS = {
    "line_too_long": "the line is too long",
    "not_utf8": "the line is not in UTF-8",
    "not_json": "the line is not well-formed JSON",
    "repeated_key": "an object of the line has a key twice",
    "nul_character": "a text contains a NUL character",
    "wrong_shape": "a field is missing, of the wrong type, or far too long",
    "unclear_text": "a text is blank, too long, or has characters that cannot be shown",
    "unknown_form": "the line is in neither the plain nor the national form",
    "malformed_code": "the dossier's code fits none of the schemes",
    "bad_date": "a date is missing, does not exist or is in another format than the form's",
    "dates_out_of_order": "the dates contradict one another",
    "date_in_future": "a date that has to be past is in the future",
    "unknown_status": "the status is not one of the ten national statuses",
    "history_disagrees": "the dossier's status is not the last status of its history",
    "impossible_history": "the history goes back to before the reception",
    "unknown_agency": "the agency is not in the catalogue",
    "unknown_service": "the service is not in the catalogue",
    "number_taken": "the code is bound to another dossier as its official number",
    "differs_from_stored": "another dossier, or another history, is stored under this code",
    "step_not_allowed": "the stored dossier cannot take the further steps",
    "refused_by_database": "the dossier violates a constraint of the database",
}


class HistoryStep(msgspec.Struct, frozen=True):
    """One step of a history.

    `at` is the earliest possible time where the line does not say since when (`timed` is False): such a step is not
    shown. `items`: what a supplement has to bring. `due_before`: the due date when the step paused the time limit.
    """

    at: datetime
    status: Status
    agency: str
    department: str | None = None
    officer: str | None = None
    note: str | None = None
    items: tuple[str, ...] = ()
    outcome: str | None = None
    due_before: datetime | None = None
    timed: bool = True


class Person(msgspec.Struct, frozen=True):
    """The applicant, as the source writes it. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    kind: int
    name: str
    id: str | None
    phone: str | None
    email: str | None
    address: str | None


class History(msgspec.Struct, frozen=True):
    """A dossier with its steps from the submission to the present status, oldest first; at least one step."""

    code: DossierCode
    agency: str
    service: str
    service_case: str
    channel: str
    submitted_at: datetime
    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    returned_at: datetime | None
    applicant: Person
    subject: str | None
    steps: tuple[HistoryStep, ...]

    @property
    def status(self) -> Status:
        """The present status."""
        return self.steps[-1].status

    @property
    def irregular(self) -> bool:
        """True if a step is not an allowed move from the step before. Such a history is imported and counted."""
        return any(not before.status.may_become(after.status) for before, after in pairwise(self.steps))

    @property
    def latest(self) -> datetime:
        """The latest of the times that have to be past: all but the due date."""
        said = (self.submitted_at, self.received_at, self.finished_at, self.returned_at, self.steps[-1].at)
        return max(moment for moment in said if moment is not None)


def read_line(line: bytes) -> History:
    """The history in a line of either form. Raises Refused."""
    from intake.dialects import national, plain

    form = read_form(line)
    if "MaHoSo" in form:
        return plausible(national.read(form))
    if "code" in form:
        return plausible(plain.read(form))
    raise Refused("unknown_form", "the line has neither MaHoSo (national form) nor code (plain form)")


def read_form(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, in which no text has a NUL and no object a key twice. Raises Refused."""
    if b"\\u0000" in line or b"\0" in line:
        raise Refused("nul_character", "a NUL character cannot be stored in a text")
    try:
        line.rstrip().decode("utf-8")
        form = _decode(line)
    except UnicodeDecodeError as error:
        if error.end == len(line.rstrip()):
            raise Refused("not_json", "the line is cut off within a character") from None
        raise Refused("not_utf8", f"{error.reason} at byte {error.start}; if the file is in {_MAY_BE}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("not_json", str(error)) from None
    if not isinstance(form, dict):
        raise Refused("wrong_shape", "the line is JSON, but no object")
    if _may_repeat(line, form) and (repeated := repeated_key(line)):
        raise Refused("repeated_key", f"{repeated[:40]!r} stands twice; which of the values is meant?")
    return form


def _may_repeat(line: bytes, form: dict[str, Any]) -> bool:
    """False if no object can have a key twice: the text has no more ends of keys than the object has keys.

    A text within quotes can only add to what looks like one. Looking at every key would take four times as long.
    """
    return line.count(b'":') != _keys_in(form) or _SPACED.search(line) is not None


def _keys_in(form: dict[str, Any]) -> int:
    keys = 0
    unseen: list[Any] = [form]
    for each in unseen:  # it grows meanwhile
        if type(each) is dict:
            keys += len(each)
            unseen += [inner for inner in each.values() if type(inner) is not str]
        elif type(each) is list:
            unseen += each
    return keys


_SPACED = re.compile(rb'"\s+:')
_decode = msgspec.json.Decoder().decode
_MAY_BE = "Windows-1258 (cp1258), convert it: iconv -f WINDOWS-1258 -t UTF-8"


def cleaned(field: str, text: str, longest: int, *, lines: bool = False) -> str:
    """The text as it is stored. Raises Refused with the field's name."""
    try:
        return clean(text, longest, lines=lines)
    except UnclearText as unclear:
        raise Refused("unclear_text", f"{field}: {unclear}") from None


def ends(
    steps: tuple[HistoryStep, ...], finished: datetime | None, returned: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """When the work was finished and the result handed over: as said, else by the steps. Raises Refused without both.

    Of a dossier that is in neither status nothing is believed.
    """
    last = steps[-1]
    if last.status not in (Status.COMPLETED, Status.RETURNED):
        return None, None
    last_at = last.at if last.timed else None
    handed_over = (returned or last_at) if last.status is Status.RETURNED else None
    done = next((step.at for step in reversed(steps) if step.status is Status.COMPLETED and step.timed), None)
    done = finished or done or handed_over or last_at
    if done is None or (last.status is Status.RETURNED and handed_over is None):
        raise Refused("bad_date", f"the dossier is {last.status.slug}, and nothing says since when")
    return done, handed_over


_BEFORE_RECEPTION = frozenset({Status.SUBMITTED, Status.SUPPLEMENT_REQUIRED})


def plausible(history: History) -> History:
    """The history. Raises Refused for times and steps that cannot be, or cannot be together."""
    steps, submitted = history.steps, history.submitted_at
    received, due, finished, returned = (history.received_at, history.due_at, history.finished_at, history.returned_at)
    for moment in (submitted, received, due, finished, returned, *(step.at for step in steps)):
        # datetime.min and max cannot even be converted to UTC.
        if moment is not None and moment.year not in YEARS:
            raise Refused("bad_date", f"{moment.isoformat()} is not between {YEARS[0]} and {YEARS[-1]}")
    _in_order("the reception", received, "the submission", submitted)
    _in_order("the due date", due, "the submission", submitted)
    _in_order("the completion", finished, "the reception", received or submitted)
    _in_order("the return", returned, "the completion", finished or received or submitted)
    _in_order("the first step", steps[0].at, "the submission", submitted)
    accepted = False
    for number, (before, after) in enumerate(pairwise(steps), 2):
        if after.at < before.at:
            _in_order(f"step {number}", after.at, f"step {number - 1}", before.at)
        accepted = accepted or before.status not in _BEFORE_RECEPTION
        if accepted and after.status is Status.SUBMITTED:
            raise Refused("impossible_history", f"step {number} is submitted, after {before.status.slug}")
    return history


def _in_order(what: str, moment: datetime | None, other: str, earlier: datetime | None) -> None:
    if moment is not None and earlier is not None and moment < earlier:
        raise Refused("dates_out_of_order", f"{what}, {_said(moment)}, is before {other}, {_said(earlier)}")


def _said(moment: datetime) -> str:
    return moment.astimezone(VIETNAM).isoformat(" ", "seconds")


def shape(form: dict[str, Any], kind: Any) -> Any:
    """The form as this type. Raises Refused for another shape."""
    try:
        return msgspec.convert(form, kind)
    except msgspec.ValidationError as error:
        reason = "bad_date" if "RFC3339" in str(error) else "wrong_shape"
        raise Refused(reason, str(error)) from None
