"""What is true of a dossier for its reader: which case it is, what of its due date may be said, how far it has come.

One pure function decides it for the page, for its holder's view and, as `completion`, for JSON. No template and no
handler decides anything of it. The words for each case are phrases (`case.<case>.lead`, `.do`, `.ask`).

The cases go by the national number of the status and a letter:
1 submitted · 2, 4 accepted, being processed · 2t, 4t due today · 2T, 4T due today, the hour has passed ·
2o, 4o overdue · 4c processed again after it was completed · 4co the same, overdue · 5 supplement required ·
5b the same before acceptance · 6 payment required · 8 suspended · 3 rejected · 7 withdrawn · 9 completed ·
9e completed before its due date, which is still ahead · 10 returned · 10s returned after it was suspended ·
9r, 10r for the holder, refused · 9p, 10p for the holder, granted in part
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from lookup.clock import VIETNAM
from lookup.status import Status

CASES = (
    *("1", "2", "2t", "2T", "2o", "3", "4", "4t", "4T", "4o", "4c", "4co"),
    *("5", "5b", "6", "7", "8", "9", "9e", "9r", "9p", "10", "10r", "10p", "10s"),
)
"""Every case, in the order of the statuses."""

TO_DO = frozenset({"5", "5b", "6"})
"""Cases in which the applicant has to do something."""

CLOSED = frozenset({"3", "7", "10", "10r", "10p", "10s"})
"""Cases after which nothing follows."""

REASONED = frozenset({"3", "7", "8", "9r", "10r"})
"""Cases in which the agency says why."""


class Sight(Enum):
    """What a reader may know of the due date."""

    NOTHING = "nothing"
    """Anyone: a page that turns to "overdue" one day would tell the date to whoever looks daily."""
    DAY = "day"
    """Anyone, where the installation shows due dates (Shows.DUE): the day. Its hour is that of the submission."""
    ALL = "all"
    """The holder of the lookup key."""


class Due(Enum):
    """What the page says of the due date."""

    NONE = "none"
    """No date."""
    PLAIN = "plain"
    """The date alone."""
    LEFT = "left"
    """The date and how many days are left, two or more."""
    TOMORROW = "tomorrow"
    TODAY = "today"
    PAST_HOUR = "past_hour"
    """Today, and the hour has passed."""
    OVERDUE_BY_ONE = "overdue_by_one"
    OVERDUE = "overdue"
    READY = "ready"
    """Ahead, and there is a result already."""
    HELD = "held"
    """The date before the time limit was paused; a new one may follow."""


STANDING = frozenset({Due.LEFT, Due.TOMORROW, Due.TODAY})
"""A due date that is ahead and stands: it is neither held nor out of date, and there is no result yet."""


class Note(Enum):
    """The sentence below the due date, or in its place."""

    ON_ACCEPTANCE = "on_acceptance"
    """It is set when the dossier is accepted."""
    ON_RECEIPT = "on_receipt"
    """It is on the receipt; the lookup key shows it here."""
    IF_ANY = "if_any"
    """It is on the receipt if there is one."""
    RESTART = "restart"
    SHIFT = "shift"
    IF_RESUMED = "if_resumed"
    UNCHANGED = "unchanged"
    MAY_CHANGE = "may_change"
    PUT_OFF = "put_off"
    """It is the date of a re-appointment."""


class Finished(Enum):
    """Whether it was completed in time, by the day, as the control slip counts it."""

    EARLY = "early"
    ON_TIME = "on_time"
    LATE = "late"


class Stands(Enum):
    """Where the present step stands: the word beside it in the list of steps."""

    NOW = "now"
    ON_HOLD = "on_hold"
    WAITING = "waiting"
    """Something is waited for while the time limit runs on."""
    STOPPED = "stopped"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Progress:
    """The steps of a dossier's way. They go by slugs, "resumed" for the work after a hold; `percent` None: not shown.

    `present_done`: the present step is one that is over, not one that lasts.
    """

    done: tuple[str, ...]
    present: str
    ahead: tuple[str, ...]
    stands: Stands
    percent: int | None
    present_done: bool = False


@dataclass(frozen=True, slots=True)
class WasLate:
    """It was past its due date when a pause began, after which that date is another one: the new date hides it."""

    since: datetime
    """When the pause began."""
    days: int
    """0: on the due date itself, after its hour."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is true of a dossier for one reader at one moment.

    Two situations are equal when their pages differ in words alone (codes, dates, days), so that a page can be made
    once for all of them: the two numbers of days take no part in the comparison.
    """

    case: str
    status: Status
    due: Due
    note: Note | None
    progress: Progress
    finished: Finished | None = None
    """For the holder of a completed dossier with a due date."""
    was_late: WasLate | None = None
    """For the holder, before the last of the pauses that began late."""
    days: int = field(default=0, compare=False)
    """Days until the due date, or since, never below 0; counted by date in Vietnam, days off included."""
    finished_days: int = field(default=0, compare=False)
    """Days between the due date and the completion."""

    @property
    def to_do(self) -> bool:
        """Whether the applicant has to do something."""
        return self.case in TO_DO

    @property
    def open(self) -> bool:
        """Whether anything may still follow."""
        return self.case not in CLOSED


class Passed(Protocol):
    """A step of a timeline."""

    @property
    def at(self) -> datetime: ...
    @property
    def status(self) -> str: ...
    @property
    def due_at(self) -> datetime | None: ...
    @property
    def task(self) -> int | None: ...


class Paused(Protocol):
    """A pause of the time limit."""

    @property
    def status(self) -> int: ...
    @property
    def since(self) -> datetime: ...
    @property
    def until(self) -> datetime | None: ...
    @property
    def policy(self) -> str: ...
    @property
    def due_before(self) -> datetime | None: ...


class Facts(Protocol):
    """What of a dossier decides (lookup/dossier.py: Record)."""

    @property
    def status(self) -> int: ...
    @property
    def received_at(self) -> datetime | None: ...
    @property
    def due_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...
    @property
    def timeline(self) -> Sequence[Passed]: ...
    @property
    def outcome(self) -> str | None: ...
    @property
    def pauses(self) -> Sequence[Paused]: ...


_S = Status
_USUAL = ("submitted", "received", "processing", "completed", "returned")
_WAY = (_S.SUBMITTED, _S.RECEIVED, _S.PROCESSING)

# What lies behind by the status alone: 6 and 8 only ever follow acceptance, 3, 5 and 7 may precede it (MOVES).
_AT_LEAST = {
    _S.SUBMITTED: 0,
    _S.RECEIVED: 1,
    _S.REJECTED: 0,
    _S.PROCESSING: 2,
    _S.SUPPLEMENT_REQUIRED: 0,
    _S.PAYMENT_REQUIRED: 1,
    _S.WITHDRAWN: 0,
    _S.SUSPENDED: 1,
    _S.COMPLETED: 2,
    _S.RETURNED: 2,
}
_PERCENT = {_S.SUBMITTED: 10, _S.RECEIVED: 25, _S.PROCESSING: 50, _S.COMPLETED: 90}
_REACHED_DECIDES = frozenset({_S.RECEIVED, _S.SUPPLEMENT_REQUIRED, _S.PAYMENT_REQUIRED, _S.SUSPENDED})


def reached(status: Status, received: bool, passed: Collection[str]) -> Status:
    """The furthest of submitted, received and processing that lies behind or is present.

    `received`: whether its time is known; `passed`: the slugs in the timeline. Imports may lack either.
    """
    furthest = _AT_LEAST[status]
    if status is _S.SUBMITTED:
        return status  # whatever a timeline holds: nothing comes before it
    if furthest < 2 and "processing" in passed:
        furthest = 2
    elif furthest < 1 and (received or "received" in passed):
        furthest = 1
    return _WAY[furthest]


def completion_decided_by_steps(status: int) -> bool:
    """Whether `completion` looks at the steps; otherwise the status alone decides, and no timeline need be decoded."""
    return status in _REACHED_DECIDES


def completion(status: Status, received: bool, passed: Collection[str]) -> float:
    """Degree of completion from 0 to 1, which the anonymous view must show (TT 01/2018, art. 16(2)d).

    It falls at one move only, the correction of a result (completed → processing). 1 for every final status.
    """
    return (100 if status.final else _percent(status, reached(status, received, passed))) / 100


def situation(
    dossier: Facts, at: datetime, *, sight: Sight, policy: str | None = None, stale: bool = False
) -> Situation:
    """What is true of it at `at` for a reader who may see that much.

    `policy`: what its service's clock does today after such a pause (restart, shift, none); None: not known. It counts
    where the pause's own is not on record. Only the holder is told by either, because it hints at the service, and only
    the holder what came of the work: a refusal is personal. `stale`: it may have changed since, so that neither days
    nor "overdue" nor a passed hour are told.
    """
    status = Status(dossier.status)
    passed = [step.status for step in sorted(dossier.timeline, key=lambda step: step.at)]
    furthest = reached(status, dossier.received_at is not None, passed)
    case, holder = _case(status, furthest, passed), sight is Sight.ALL
    policy = _policy(dossier, policy) if holder and status.paused else None
    due, note, days = _due(case, dossier.due_at, at, sight=sight, policy=policy, stale=stale)
    if holder and note is None and case in _RUNS and _put_off(dossier):
        note = Note.PUT_OFF
    finished, finished_days = _finished(case, dossier, sight)
    return Situation(
        _case_when(case, due, dossier.outcome if holder else None),
        status,
        due,
        note,
        _progress(case, status, furthest, policy, passed),
        finished,
        _was_late(dossier) if holder else None,
        days,
        finished_days,
    )


def _case(status: Status, furthest: Status, passed: Sequence[str]) -> str:
    """The case as far as the due date does not decide it."""
    if status is _S.SUPPLEMENT_REQUIRED and furthest is _S.SUBMITTED:
        return "5b"
    if status is _S.PROCESSING and "completed" in _before_last("processing", passed):
        return "4c"
    if status is _S.RETURNED and _before_last("returned", passed)[-1:] == ["suspended"]:
        return "10s"
    return str(status.value)


def _before_last(slug: str, passed: Sequence[str]) -> list[str]:
    """The steps before the last of that status; none if there is no such step."""
    places = [place for place, each in enumerate(passed) if each == slug]
    return list(passed[: places[-1]]) if places else []


_LETTER = {Due.TODAY: "t", Due.PAST_HOUR: "T", Due.OVERDUE: "o", Due.OVERDUE_BY_ONE: "o"}
_OUTCOMES = {"refused": "r", "partly": "p"}


def _case_when(case: str, due: Due, outcome: str | None) -> str:
    """The case, with what the due date adds to it, or what came of the work."""
    if case in ("2", "4"):
        return case + _LETTER.get(due, "")
    if case == "4c" and due in (Due.OVERDUE, Due.OVERDUE_BY_ONE):
        return "4co"
    if case in ("9", "10") and outcome in _OUTCOMES:
        return case + _OUTCOMES[outcome]
    return "9e" if due is Due.READY else case


_RUNS = frozenset({"2", "4", "4c"})
_PAUSED = frozenset({"5", "6", "8"})


def _due(
    case: str, due_at: datetime | None, at: datetime, *, sight: Sight, policy: str | None, stale: bool
) -> tuple[Due, Note | None, int]:
    """What is said of the due date, the sentence below it, and the days to it."""
    if case in ("1", "5b"):
        return Due.NONE, Note.ON_ACCEPTANCE, 0
    if case in CLOSED:
        return Due.NONE, None, 0
    if sight is Sight.NOTHING:  # whether there is a date is not told either
        return Due.NONE, Note.ON_RECEIPT if case in _RUNS else None, 0
    if due_at is None:
        return Due.NONE, Note.IF_ANY if case in _RUNS else None, 0
    days = (due_at.astimezone(VIETNAM).date() - at.astimezone(VIETNAM).date()).days
    if case == "9":
        return Due.READY if days > 0 else Due.PLAIN, None, 0
    if case in _PAUSED and policy != "none":
        return Due.HELD, _note(case, policy), 0
    note = Note.UNCHANGED if case in _PAUSED else None
    if stale:
        return Due.PLAIN, note, 0
    return _distance(days, passed=sight is Sight.ALL and at > due_at), note, abs(days)


def _distance(days: int, *, passed: bool) -> Due:
    if days > 0:
        return Due.TOMORROW if days == 1 else Due.LEFT
    if days == 0:
        return Due.PAST_HOUR if passed else Due.TODAY
    return Due.OVERDUE_BY_ONE if days == -1 else Due.OVERDUE


def _note(case: str, policy: str | None) -> Note:
    if policy not in ("restart", "shift"):
        return Note.MAY_CHANGE
    if case == "8":
        return Note.IF_RESUMED  # it may not be
    return Note.RESTART if policy == "restart" else Note.SHIFT


def _policy(dossier: Facts, of_service: str | None) -> str | None:
    """What the clock does after the present pause: what it was to do when the pause began, if that is on record."""
    last = dossier.pauses[-1] if dossier.pauses else None
    present = last is not None and last.until is None and last.status == dossier.status
    return last.policy if last is not None and present else of_service


def _put_off(dossier: Facts) -> bool:
    """Whether the due date is that of a re-appointment."""
    return dossier.due_at is not None and any(
        step.due_at == dossier.due_at and step.task is None for step in dossier.timeline
    )


def _was_late(dossier: Facts) -> WasLate | None:
    """Where the clock ran on in the pause, the same due date still tells it."""
    for pause in reversed(dossier.pauses):
        if pause.policy != "none" and pause.due_before is not None and pause.since > pause.due_before:
            began, due = (moment.astimezone(VIETNAM).date() for moment in (pause.since, pause.due_before))
            return WasLate(pause.since, (began - due).days)
    return None


def _finished(case: str, dossier: Facts, sight: Sight) -> tuple[Finished | None, int]:
    """Whether it was completed in time, and by how many days; for the holder."""
    if case != "9" or sight is not Sight.ALL or dossier.due_at is None or dossier.finished_at is None:
        return None, 0
    due, finished = (moment.astimezone(VIETNAM).date() for moment in (dossier.due_at, dossier.finished_at))
    days = (due - finished).days
    return (Finished.EARLY if days > 0 else Finished.LATE if days else Finished.ON_TIME), abs(days)


def _percent(status: Status, furthest: Status) -> int:
    return max(_PERCENT.get(status, 0), _PERCENT[furthest])


def _progress(case: str, status: Status, furthest: Status, policy: str | None, passed: Sequence[str]) -> Progress:
    """The usual way with the present step in it. A status beside the way stands after the steps that lie behind it."""
    slug, behind = status.slug, _USUAL[: _WAY.index(furthest) + 1]
    percent = _percent(status, furthest)
    if case == "10s":
        return Progress((*_stopped(passed), "suspended"), slug, (), Stands.CLOSED, None, present_done=True)
    if status is _S.RETURNED:
        return Progress(_USUAL[:4], slug, (), Stands.CLOSED, 100, present_done=True)
    if status in (_S.REJECTED, _S.WITHDRAWN):
        return Progress(behind, slug, (), Stands.CLOSED, None)
    if status is _S.SUSPENDED:
        return Progress(behind, slug, (), Stands.STOPPED, percent)
    if case == "5b":
        return Progress(behind, slug, _USUAL[1:], Stands.NOW, percent)
    if status.paused:
        stands = Stands.WAITING if policy == "none" else Stands.ON_HOLD
        return Progress(behind, slug, ("resumed", "completed", "returned"), stands, percent)
    here = _USUAL.index(slug)
    if status is _S.RECEIVED and furthest is _S.PROCESSING:  # accepted again after a supplement
        return Progress(_USUAL[:here], slug, ("resumed", "completed", "returned"), Stands.NOW, percent)
    return Progress(_USUAL[:here], slug, _USUAL[here + 1 :], Stands.NOW, percent)


def _stopped(passed: Sequence[str]) -> tuple[str, ...]:
    """The usual steps that lie behind a dossier that was handed back after it had been stopped."""
    return _USUAL[: _WAY.index(reached(_S.SUSPENDED, True, passed)) + 1]
