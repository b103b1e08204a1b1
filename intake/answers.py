"""What the intake answers, as types.

Answers to changes are kept with their idempotency key and repeated by later releases: a field that is added to one
needs a default.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from intake.rules.channels import Channel
from lookup.clock import Zoned
from lookup.status import StatusSlug
from ops.http.endpoints import list_of


class Slip(msgspec.Struct, frozen=True):
    """What the applicant is handed: the receipt of an accepted dossier, or the confirmation that one came in online.

    `received_at` and `due_at` are null in a confirmation. `link` opens the dossier's page with its lookup key.
    """

    number: str
    agency: str
    service: str
    submitted_at: Zoned
    received_at: Zoned | None
    due_at: Zoned | None
    issued_at: Zoned
    link: str


class IssuedPaper(msgspec.Struct, frozen=True):
    """A paper that was issued: its form, its number in the year's sequence of the agency that issues it, and the
    dossier's version with which it was issued, by which it is fetched.
    """

    form: str
    year: int
    number: int
    version: int


class Received(msgspec.Struct, frozen=True):
    """A dossier that was received, with its lookup key: with a receipt if it is accepted, else with a confirmation.

    One whose result was handed over at once has a receipt only if one was asked for.
    """

    code: str
    lookup_key: str
    status: StatusSlug
    due_at: Zoned | None
    version: int
    receipt: Slip | UnsetType = UNSET
    confirmation: Slip | UnsetType = UNSET
    papers: list[IssuedPaper] | UnsetType = UNSET


class Exceeded(msgspec.Struct, frozen=True):
    """A rule of the service that was exceeded all the same: what it allows, what was found, and the article."""

    rule: str
    value: int
    found: str
    source: str


class Moved(msgspec.Struct, frozen=True):
    """A dossier after a move; with the receipt if the move accepted it."""

    code: str
    version: int
    status: StatusSlug
    due_at: Zoned | None
    receipt: Slip | UnsetType = UNSET
    warnings: list[Exceeded] | UnsetType = UNSET
    papers: list[IssuedPaper] | UnsetType = UNSET


class Consent(msgspec.Struct, frozen=True):
    """Whether the applicant of a dossier is told by a channel what becomes of it."""

    code: str
    channel: Channel
    told: bool


class TaskView(msgspec.Struct, frozen=True):
    """A task of a dossier: what its agency owes, and by when. `after`: the task that has to end first."""

    number: int
    agency: str
    kind: str
    work: str
    state: str
    after: int | None
    due_at: Zoned | None
    opened_at: Zoned | None
    ended_at: Zoned | None


class Tasked(msgspec.Struct, frozen=True):
    """A dossier and its tasks after a change of them, of its due date or of its lead."""

    code: str
    version: int
    status: StatusSlug
    agency: str
    due_at: Zoned | None
    tasks: list[TaskView]
    warnings: list[Exceeded]
    papers: list[IssuedPaper] | UnsetType = UNSET


class InboxTask(msgspec.Struct, frozen=True):
    """A live task and the dossier that it belongs to."""

    code: str
    number: int
    agency: str
    kind: str
    work: str
    state: str
    after: int | None
    due_at: Zoned | None
    opened_at: Zoned
    version: int
    status: StatusSlug
    service: str


class Inbox(msgspec.Struct, frozen=True):
    """Live tasks by due date. `next`: what to ask with for those behind them; null for the last page."""

    tasks: list[InboxTask]
    next: str | None


class Bound(msgspec.Struct, frozen=True):
    """A dossier with its official number."""

    code: str
    version: int
    official_number: str


class Corrected(msgspec.Struct, frozen=True):
    """A dossier after a correction, and the names of the fields that it changed."""

    code: str
    version: int
    status: StatusSlug
    corrected: list[str]
    papers: list[IssuedPaper] | UnsetType = UNSET


class IssuedKey(msgspec.Struct, frozen=True):
    """A dossier's lookup key, and the link that opens its page with it."""

    code: str
    version: int
    lookup_key: str
    link: str


class Issued(msgspec.Struct, frozen=True):
    """A dossier after a paper was issued that changes nothing else."""

    code: str
    version: int
    papers: list[IssuedPaper]


class PaperView(msgspec.Struct, frozen=True, kw_only=True):
    """A paper of a dossier. `version`: of the event that issued it; `issued_by`: the client, or a desk.

    `digest` is the SHA-256 of what it says, `stamp` the text that anyone can verify with the public key `key_id`.
    Of an erased one `stamp` is null; `altered`: what is stored is not what was issued, and is not printed.
    """

    agency: str
    form: str
    year: int
    number: int
    version: int
    form_version: str
    issued_at: Zoned
    issued_by: str
    digest: str
    key_id: int
    stamp: str | None
    erased: bool
    altered: bool


class PaperList(msgspec.Struct, frozen=True):
    """All papers of a dossier, oldest first."""

    code: str
    papers: list[PaperView]


class OfficersStep(msgspec.Struct, frozen=True):
    """A public step: the agency and department that set a status, or the agency of a task.

    `late`: reported when the dossier had gone on, so that it set nothing. `due_at`: of a re-appointment the new due
    date, of a task that was opened its own. `task` and `work`: its number, and what is done.
    """

    at: Zoned
    status: StatusSlug
    agency: str
    department: str | None
    late: bool | UnsetType = UNSET
    due_at: Zoned | UnsetType | None = UNSET
    task: int | UnsetType = UNSET
    work: str | UnsetType | None = UNSET


class OfficersPause(msgspec.Struct, frozen=True):
    """A pause of the time limit, by the national number of its status; `until` is null while it lasts."""

    status: int
    since: Zoned
    until: Zoned | None
    policy: str
    due_before: Zoned | None


class OfficersApplicant(msgspec.Struct, frozen=True):
    """The applicant. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    kind: int | None
    name: str | None
    id: str | None
    phone: str | None
    email: str | None
    address: str | None


class OfficersView(msgspec.Struct, frozen=True, kw_only=True):
    """A dossier as an officer sees it, with its applicant, and the statuses it may become.

    Pauses and timeline are sent as PostgreSQL has them.
    """

    code: str
    version: int
    service: str
    service_case: str
    agency: str
    origin: str
    channel: str
    official_number: str | None
    outcome: str | None
    reason: str | None
    action_needed: str | None
    supplements: int
    reappointments: int
    subject: str | None
    submitted_at: Zoned
    received_at: Zoned | None
    due_at: Zoned | None
    finished_at: Zoned | None
    returned_at: Zoned | None
    status: StatusSlug
    status_number: int
    final: bool
    pauses: Annotated[msgspec.Raw, list_of(OfficersPause)]
    timeline: Annotated[msgspec.Raw, list_of(OfficersStep)]
    applicant: OfficersApplicant
    tasks: list[TaskView]
    next: list[StatusSlug]


class EventTask(msgspec.Struct, frozen=True, kw_only=True):
    """The task that an event opened or ended: `state` is `opened`, or how it ended. What was erased is null.

    `asked_by`: the task whose agency asks the lead by it.
    """

    number: int
    state: str | None
    agency: str | None
    kind: str | None
    work: str | None
    after: int | None
    due_at: Zoned | None
    asked_by: int | None
    reason: str | None


class OfficersEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a dossier: what happened, when, by whom, and what the dossier was after it.

    `source`: the client, or a program of ours; `officer`: the person it names. `rules`: those of the service that were
    exceeded, and `override` why. `corrected`: the names of fields. What was erased is null or empty.
    """

    version: int
    kind: str
    at: Zoned
    recorded_at: Zoned
    source: str
    officer: str | None
    status: StatusSlug
    agency: str
    came_from: str | None
    department: str | None
    outcome: str | None
    due_at: Zoned | None
    note: str | None
    items: list[str]
    override: str | None
    rules: list[Exceeded]
    corrected: list[str]
    flags: list[str]
    task: EventTask | None


class History(msgspec.Struct, frozen=True):
    """All events of a dossier, oldest first."""

    code: str
    events: list[OfficersEvent]
