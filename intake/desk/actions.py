"""What an officer can do with a dossier: the forms on its page, and what each one asks of the ledger."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from intake.books.ledger import OneStop
from intake.desk.forms import Form, lines_of
from intake.desk.frame import Desk
from intake.desk.officers import Officer
from intake.refusals import TargetNotAllowed
from intake.rules.changes import AskLead, EndTask, IssuePaper, Lead, OpenTask, PutOff
from intake.rules.requests import (
    CorrectionRequest,
    InvalidContent,
    NewDueDate,
    NewLead,
    NewPaper,
    NewTask,
    OfficialNumber,
    TaskStep,
    Transition,
    read_value,
)
from intake.rules.scope import may_change, require_target
from intake.rules.tasks import BY_MOVES, End, Task
from lookup.catalogue import Catalogue, in_force
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.status import Status

Sort = Literal["line", "text", "items", "moment", "outcome", "agency", "work_kind", "applicant"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an action's form. `needed`: the browser does not send it empty."""

    name: str
    sort: Sort = "line"
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A form of the dossier's page. `word`: of its button; `key`: the letter that opens it. `to`: of a move its status.

    `what`: the move, or the kind of event, as the scope rule knows it. `action`: what the officer's roles must allow.
    """

    name: str
    key: str
    what: Status | str
    fields: tuple[Field, ...] = ()
    action: str = "move"

    @property
    def word(self) -> str:
        """The name of its words."""
        return f"action.{self.name}"


_NOTE = Field("note", "text", needed=True)
_HINT = Field("note", "text")
ACCEPT = Action("accept", "N", Status.RECEIVED)
PROCESS = Action(
    "process", "C", Status.PROCESSING, (Field("agency", "agency"), Field("department"), Field("note", "text"))
)
RESUME = Action("resume", "G", Status.PROCESSING, (Field("note", "text"),))
MOVES: Final[Sequence[Action]] = (
    ACCEPT,
    PROCESS,
    RESUME,
    Action("supplement", "B", Status.SUPPLEMENT_REQUIRED, (_NOTE, Field("items", "items", needed=True))),
    Action("payment", "P", Status.PAYMENT_REQUIRED, (_NOTE,)),
    Action("complete", "X", Status.COMPLETED, (Field("outcome", "outcome"), _HINT)),
    Action("give", "T", Status.RETURNED),
    Action("suspend", "D", Status.SUSPENDED, (_NOTE,)),
    Action("reject", "U", Status.REJECTED, (_NOTE,)),
    Action("withdraw", "R", Status.WITHDRAWN, (_NOTE,)),
)
PUT_OFF = Action(
    "put_off", "L", "due_changed", (Field("due_at", "moment", needed=True), Field("reason", "text", needed=True))
)
LEAD = Action(
    "lead", "O", "led_by", (Field("agency", "agency"), Field("reason", "text", needed=True)), action="correct"
)
TASK = Action(
    "task",
    "V",
    "task_opened",
    (
        Field("agency", "agency"),
        Field("kind", "work_kind"),
        Field("work", needed=True),
        Field("due_at", "moment"),
    ),
)
CONTROL = Action("control", "M", "paper_issued")
APOLOGY = Action("apology", "A", "paper_issued", (Field("reason", "text", needed=True),))
CORRECT = Action(
    "correct", "S", "corrected", (Field("applicant", "applicant"), Field("reason", "text", needed=True)), "correct"
)
NUMBER = Action("number", "Q", "number_bound", (Field("number", needed=True),), "bind")
OTHERS: Final = (PUT_OFF, TASK, LEAD, CONTROL, APOLOGY, CORRECT, NUMBER)

TASK_STEPS: Final[Mapping[str, End]] = {"done": "done", "refuse": "refused", "cancel": "cancelled"}
"""Last part of a task's address → how it ends. With `ask` it waits for an answer of the lead."""
PERSON: Final = ("name", "id", "phone", "email", "address")


def offered(row: Any, officer: Officer, catalogue: Catalogue, today: date) -> list[Action]:
    """What this officer may do with the dossier in this row of OFFICERS_VIEW, in the order of its page."""

    def his(each: Action) -> bool:
        allowed = each.action in officer.actions
        return allowed and may_change(catalogue, officer.agency, today, row["agency"], row["origin"], each.what)

    status = Status(row["status"])
    moves = [each for each in MOVES if isinstance(each.what, Status) and status.may_become(each.what)]
    moves = [each for each in moves if each is not (PROCESS if status.paused else RESUME)]
    open_ones = () if status.final else OTHERS
    return [each for each in (*moves, *_fitting(open_ones, row, status)) if his(each)]


def _fitting(others: Sequence[Action], row: Any, status: Status) -> Iterator[Action]:
    """Those that mean something now: a date is put off where one was promised, and a number bound once."""
    worked_on = status in (Status.RECEIVED, Status.PROCESSING)
    for each in others:
        if each in (PUT_OFF, APOLOGY) and not (worked_on and row["due_at"]):
            continue
        if each in (TASK, CONTROL) and row["received_at"] is None:
            continue
        if each is NUMBER and row["official_number"]:
            continue
        yield each


def targets(row: Any, catalogue: Catalogue, today: date) -> list[tuple[str, str]]:
    """The agencies to which this dossier may be handed today: code and name, the receiving one first."""
    service = catalogue.services.get(row["service"])
    found = []
    for each in catalogue.agencies.values():
        if each.code == row["agency"] or each.sandbox or not in_force(each, today):
            continue
        try:
            if each.code != row["origin"]:
                require_target(catalogue, row["agency"], each.code, today, service)
        except TargetNotAllowed:
            continue
        found.append((each.code, each.name_vi))
    return sorted(found, key=lambda each: (each[0] != row["origin"], each[0]))


def steps_of(task: Task, row: Any, officer: Officer, catalogue: Catalogue, today: date) -> list[str]:
    """What this officer may do about a task: keys of TASK_STEPS, and `ask`."""
    if not task.live or task.kind in BY_MOVES or "move" not in officer.actions or Status(row["status"]).final:
        return []
    steps = []
    if task.state == "open" and may_change(catalogue, officer.agency, today, task.agency, row["origin"], "task_ended"):
        steps += ["done", "refuse"] + (["ask"] if task.agency != row["agency"] else [])
    if may_change(catalogue, officer.agency, today, row["agency"], row["origin"], "task_ended"):
        steps.append("cancel")
    return steps


async def carry_out(name: str, form: Form, code: DossierCode, desk: Desk, officer: Officer) -> Mapping[str, Any]:
    """Do what this form asks for; the ledger's answer. `name` is one of ALL.

    The same form sent again does it once. Raises what the ledger raises, InvalidContent, Malformed.
    """
    catalogue, keyed = await desk.catalogue.get(), form.keyed(officer)
    says: dict[str, Any] = {"officer": officer.name, "expected_version": form.version}
    move = next((each for each in MOVES if each.name == name), None)
    if move is not None and isinstance(move.what, Status):
        fields = _said(form, "note", "outcome", "override", "department", "agency")
        transition = read_value(says | fields | {"to": move.what.slug, "items": lines_of(form, "items")}, Transition)
        return await desk.ledger.move(keyed, code, transition, catalogue)
    if name == CORRECT.name:
        applicant = _said(form, *PERSON)  # a field that is left empty stays as it is
        correction = read_value(says | _said(form, "reason") | {"applicant": applicant}, CorrectionRequest)
        return await desk.ledger.correct(keyed, code, correction, catalogue)
    if name == NUMBER.name:
        bound = read_value({"number": form.get("number", ""), "expected_version": form.version}, OfficialNumber)
        return await desk.ledger.bind_number(keyed, code, bound, catalogue)
    change = _ONE_STOP[name](form, says)
    return await desk.ledger.one_stop(
        keyed, code, change, officer=officer.name, expected_version=form.version, catalogue=catalogue
    )


async def end_task(
    number: int, step: str, form: Form, code: DossierCode, desk: Desk, officer: Officer
) -> Mapping[str, Any]:
    """Do what a task's form asks for; the ledger's answer. `step` is one of TASK_STEPS. Raises as carry_out."""
    said = read_value(_said(form, "reason"), TaskStep)
    change: EndTask | AskLead = AskLead(number=number, question=said.reason or "")
    if step != "ask":
        change = EndTask(number=number, end=TASK_STEPS[step], reason=said.reason)
    return await desk.ledger.one_stop(
        form.keyed(officer),
        code,
        change,
        officer=officer.name,
        expected_version=form.version,
        catalogue=await desk.catalogue.get(),
    )


def _put_off(form: Form, says: dict[str, Any]) -> PutOff:
    due_at = moment_in(form.get("due_at", ""))
    new = read_value(says | _said(form, "reason", "override") | {"due_at": due_at}, NewDueDate)
    return PutOff(due_at=new.due_at, reason=new.reason, override=new.override)


def _lead(form: Form, says: dict[str, Any]) -> Lead:
    new = read_value(says | _said(form, "agency", "reason"), NewLead)
    return Lead(agency=new.agency, reason=new.reason)


def _task(form: Form, says: dict[str, Any]) -> OpenTask:
    due_at = moment_in(form["due_at"]) if form.get("due_at") else None
    new = read_value(says | _said(form, "agency", "kind", "work") | {"due_at": due_at}, NewTask)
    return OpenTask(agency=new.agency, kind=new.kind, work=new.work, due_at=new.due_at)


def _paper(form: Form, says: dict[str, Any], name: str) -> IssuePaper:
    new = read_value(says | _said(form, "reason") | {"form": name}, NewPaper)
    return IssuePaper(form=new.form, reason=new.reason)


_ONE_STOP: Final[Mapping[str, Callable[[Form, dict[str, Any]], OneStop]]] = {
    PUT_OFF.name: _put_off,
    LEAD.name: _lead,
    TASK.name: _task,
    CONTROL.name: lambda form, says: _paper(form, says, "control"),
    APOLOGY.name: lambda form, says: _paper(form, says, "apology"),
}
ALL: Final = frozenset({each.name for each in MOVES} | _ONE_STOP.keys() | {CORRECT.name, NUMBER.name})
"""Names of actions, as addresses have them."""


def _said(form: Form, *names: str) -> dict[str, str]:
    return {name: form[name] for name in names if form.get(name)}


def moment_in(text: str) -> datetime:
    """What a browser's field of date and time sends, in Vietnam. Raises InvalidContent."""
    try:
        typed = datetime.fromisoformat(text)
        return typed if typed.tzinfo else typed.replace(tzinfo=VIETNAM)
    except ValueError:
        raise InvalidContent("due_at: expected a date and a time") from None
