"""The state of a dossier, the changes that may be asked of it, and what `apply` makes of both. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from intake.rules.tasks import End, Kind, Tasks
from lookup.catalogue import Catalogue
from lookup.status import Status

CROWDED_BYTES: Final = 48 * 1024
"""From this size of a timeline on, only steps to `apply.ENDINGS` are added to it."""
CORRECTABLE: Final = ("agency", "service", "service_case", "channel", "submitted_at", "official_number")


class Pause(msgspec.Struct, frozen=True):
    """A pause of the time limit. It began late if `since` is after `due_before`; `until` is null while it lasts."""

    status: int
    since: datetime
    until: datetime | None
    policy: str
    due_before: datetime | None


def pauses_told(pauses: tuple[Pause, ...]) -> list[dict[str, Any]]:
    """The pauses as JSON has them, times as text."""
    return [msgspec.to_builtins(pause) for pause in pauses]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A dossier but for its applicant. `last_at` is the time of its last step, `timeline_bytes` its timeline's size
    (`pg_column_size`)."""

    code: str
    version: int
    status: Status
    agency: str
    origin: str
    service: str
    service_case: str
    channel: str
    submitted_at: datetime
    calendar: str | None
    last_at: datetime
    timeline_bytes: int
    submitted_by: str | None = None
    owner: str | None = None
    source_seq: int | None = None
    outcome: str | None = None
    received_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    returned_at: datetime | None = None
    pauses: tuple[Pause, ...] = ()
    supplements: int = 0
    reappointments: int = 0
    key_serial: int = 0
    official_number: str | None = None
    action_needed: str | None = None
    reason: str | None = None
    removed: bool = False
    tasks: Tasks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """A dossier comes in: `received` (accepted at once) or `submitted`. `code` is issued for `code_day`.

    `by_sync`: another system numbered it. It may be of any day, and its due date `due_at` is that system's own; what
    its agencies owe is in that system, so it has no tasks here.
    """

    code: str
    agency: str
    service: str
    channel: str
    status: Status
    service_case: str = "default"
    submitted_at: datetime | None = None
    submitted_by: str | None = None
    department: str | None = None
    owner: str | None = None
    source_seq: int | None = None
    due_at: datetime | None = None
    by_sync: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step to a status, to another agency or unit. `items`: what a supplement has to bring. `at`: null is now.

    `by_import`: the appended step of a history. It may be of any day and need not say why. `by_sync`: the step of a
    source whose turn it is (`reconcile.why_kept`): the same, and it may be no move that our rules have. Told with an
    earlier time than the last step has, it is recorded at that one's time. `due_at`: the source's own due date.
    `override`: why it is done although a rule of the service asks for a reason.
    """

    to: Status
    at: datetime | None = None
    agency: str | None = None
    department: str | None = None
    note: str | None = None
    items: tuple[str, ...] = ()
    outcome: str | None = None
    by_import: bool = False
    by_sync: bool = False
    source_seq: int | None = None
    due_at: datetime | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A step that a source tells and that does not set the status: it stands in the timeline at its own time.

    `why`: the flags that say why it is kept, not applied.
    """

    to: Status
    why: tuple[str, ...]
    at: datetime | None = None
    agency: str | None = None
    department: str | None = None
    note: str | None = None
    source_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An official number. `elsewhere`: it is another dossier's number or code."""

    number: str
    elsewhere: bool = False
    by_import: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What was written wrongly: new values of CORRECTABLE `fields`, the names of applicant fields, and why.

    The due date that was promised stays. `elsewhere` as in Binding.
    """

    reason: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    applicant: tuple[str, ...] = ()
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reissue:
    """A new lookup key; the ones before open the dossier no longer. `reason`: for the log."""

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The dossier is emptied, and answered as one there is not. Its events are erased afterwards."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerChange:
    """Another client's synchronisation sets the status from now on, in a sequence of its own; null: any in scope."""

    owner: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """A later due date that is promised, with an apology: `reason` is told to the holder. `override` as in Move."""

    due_at: datetime
    reason: str
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Another agency holds the dossier from now on, in the same status."""

    agency: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTask:
    """The lead gives a task to an agency. `after`: the task that has to end first. `due_at`: null is the dossier's."""

    agency: str
    kind: Kind
    work: str
    after: int | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTask:
    """A task ends. A refused or cancelled one needs a reason."""

    number: int
    end: End
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLead:
    """The agency of a task asks the lead, and its task waits for the answer."""

    number: int
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuePaper:
    """A paper that changes nothing else: a control slip, or an apology without a new date. `reason` is the latter's."""

    form: Literal["control", "apology"]
    reason: str | None = None


Change = (
    Reception
    | Move
    | Note
    | Binding
    | Correction
    | Reissue
    | OwnerChange
    | Removal
    | PutOff
    | Lead
    | OpenTask
    | EndTask
    | AskLead
    | IssuePaper
)


ONE_STOP: Final = (PutOff, Lead, OpenTask, EndTask, AskLead, IssuePaper)
"""The changes of intake/rules/one_stop.py."""


@dataclass(frozen=True, slots=True)
class Given:
    """The database's time, the catalogue, and how many working days back a step may be dated."""

    now: datetime
    catalogue: Catalogue
    backdating: int = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """The state after the change, and its event's fields; `event` is None when nothing changes.

    `pauses` (null: unchanged) and `detail` are objects with times as text; the caller writes them as JSON, and adds
    epoch, source, actor, person and paper. `warnings`: rules of the service that it exceeds all the same. `paper`: the
    form, year and number of the paper that the caller has issued with it.
    """

    state: State
    event: dict[str, Any] | None
    flags: tuple[str, ...] = ()
    warnings: tuple[Mapping[str, Any], ...] = ()
    paper: Mapping[str, Any] | None = None


IMAGE: Final = (
    *("status", "agency", "origin", "owner", "outcome", "received_at", "due_at", "finished_at", "returned_at"),
    *("calendar", "supplements", "reappointments", "key_serial"),
)
"""What each event says of the dossier after it."""


def applied(
    kind: str,
    after: State,
    at: datetime,
    given: Given,
    special: Mapping[str, Any],
    flags: tuple[str, ...] = (),
    warnings: tuple[Mapping[str, Any], ...] = (),
) -> Applied:
    """A change with its event: of this kind, at this time, with its special fields."""
    event: dict[str, Any] = {
        "code": after.code,
        "version": after.version,
        "kind": kind,
        "occurred_at": at,
        "recorded_at": given.now,
        "submitted_by": after.submitted_by,  # who submitted it follows it wherever it goes
    }
    event |= {name: getattr(after, name) for name in IMAGE}
    return Applied(after, event | {"flags": list(flags) or None, **special}, flags, warnings)
