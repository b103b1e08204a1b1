"""The dossier in the lookup: one record, and the two views of it that are sent to clients.

PostgreSQL stores the record and the caches hold it; it contains no applicant. The anonymous view is for anyone who
has the code, the holder's view for the holder of the receipt. Officers' names are in neither.
"""

import operator
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from lookup.catalogue import Catalogue, Named
from lookup.clock import VIETNAM, Zoned, local
from lookup.situation import completion, completion_decided_by_steps
from lookup.status import Status, StatusSlug


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One public step: the agency and department that set a status, or the agency of a task; never the officer.

    `late`: reported when the dossier had gone on, so that it tells of a time and set nothing. `due_at`: of a
    re-appointment the new due date, of a task that was opened its own. `task` and `work`: its number, and what is done.
    """

    at: datetime
    status: str
    agency: str
    department: str | None = None
    late: bool = False
    due_at: datetime | None = None
    task: int | None = None
    work: str | None = None

    @property
    def moves(self) -> bool:
        """Whether it set the dossier's status, or passed it on to another unit in the same status."""
        return not self.late and self.due_at is None and self.task is None


class Pause(msgspec.Struct, frozen=True, array_like=True):
    """A pause of the time limit: its status, and what the clock did after it (`policy`: restart, shift or none).

    `until` is null while it lasts. `due_before` is the due date when it began.
    """

    status: int
    since: datetime
    until: datetime | None
    policy: str
    due_before: datetime | None


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A dossier at one version. Times are in UTC, statuses national numbers, agencies and services codes.

    The caches hold it packed, without field names: a new field goes to the end and has a default; any other change
    needs a new format version in the cache's keys.
    """

    code: str
    version: int
    status: Annotated[int, msgspec.Meta(ge=1, le=len(Status))]
    service: str
    agency: str
    submitted_at: datetime
    received_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    returned_at: datetime | None = None
    official_number: str | None = None
    action_needed: str | None = None
    timeline: tuple[Step, ...] = ()
    key_serial: int = 0
    origin: str | None = None
    """The agency that received it and hands the result over."""
    outcome: str | None = None
    """Of the work, once it is done: granted, refused or partly."""
    reason: str | None = None
    """Of a refusal, withdrawal or suspension, in the agency's words."""
    pauses: tuple[Pause, ...] = ()
    supplements: int = 0
    reappointments: int = 0

    def completion(self) -> float:
        """Degree of completion from 0 to 1, as in the anonymous view."""
        passed = [step.status for step in self.timeline]
        return completion(Status(self.status), self.received_at is not None, passed)


_NULL = msgspec.Raw(b"\xc0")


class Essence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a record the smallest anonymous view needs. Fields that it seldom needs stay packed: that costs nothing.

    Its fields are Record's, in their order.
    """

    code: str
    version: int
    status: Annotated[int, msgspec.Meta(ge=1, le=len(Status))]
    service: msgspec.Raw = _NULL
    agency: msgspec.Raw = _NULL
    submitted_at: msgspec.Raw = _NULL
    received_at: msgspec.Raw = _NULL
    due_at: msgspec.Raw = _NULL
    finished_at: msgspec.Raw = _NULL
    returned_at: msgspec.Raw = _NULL
    official_number: msgspec.Raw = _NULL
    action_needed: msgspec.Raw = _NULL
    timeline: msgspec.Raw = _NULL

    def completion(self) -> float:
        """Degree of completion. Raises msgspec.DecodeError for a timeline that is none."""
        received = self.received_at != _NULL
        # Decoding the steps costs three times as much as all else; without this word in them they cannot decide.
        steps_decide = completion_decided_by_steps(self.status) and (
            not received or b"processing" in bytes(self.timeline)
        )
        if not steps_decide:
            return _COMPLETION[self.status]
        return completion(Status(self.status), received, _slugs(self.timeline))


class _Slug(msgspec.Struct, array_like=True, gc=False):
    """Of a packed step the status alone."""

    at: msgspec.Raw
    status: str


class _StoredStep(msgspec.Struct):
    """A step as PostgreSQL stores it: JSON with field names, readable in the tables."""

    at: datetime
    status: str
    agency: str
    department: str | None = None
    late: bool = False
    due_at: datetime | None = None
    task: int | None = None
    work: str | None = None


class _StoredPause(msgspec.Struct):
    """A pause as PostgreSQL stores it."""

    status: int
    since: datetime
    until: datetime | None
    policy: str
    due_before: datetime | None


pack = msgspec.msgpack.Encoder().encode
"""A record as the caches hold it (MessagePack)."""
unpack = msgspec.msgpack.Decoder(Record).decode
"""The record packed in these bytes. Raises msgspec.DecodeError for anything else."""
unpack_essence = msgspec.msgpack.Decoder(Essence).decode
"""The essence of the record packed in these bytes, three times as fast. Raises like `unpack`."""
_unpack_slugs = msgspec.msgpack.Decoder(list[_Slug]).decode


Telling = tuple[int, bool, tuple[str, ...]]
"""The status, whether the dossier was received, and the slugs of its steps in the order of their times."""


class _Beginning(msgspec.Struct, array_like=True, gc=False):
    """Of a packed record what comes before its service."""

    code: msgspec.Raw
    version: int
    status: int


class _Passed(msgspec.Struct, array_like=True, gc=False):
    """Of a packed step its time and its status."""

    at: datetime
    status: str


_at = operator.attrgetter("at")
_unpack_passed = msgspec.msgpack.Decoder(list[_Passed]).decode
_unpack_beginning = msgspec.msgpack.Decoder(_Beginning).decode

_DECIDES = {
    Status.PROCESSING.value: b"completed",
    Status.COMPLETED.value: b"no step decides",
    Status.RETURNED.value: b"suspended",
}
"""Status → the word without which steps decide no situation (lookup/situation.py); for others "processing"."""
_DECIDED_BY_ACCEPTANCE = frozenset(
    status.value for status in (Status.SUBMITTED, Status.REJECTED, Status.SUPPLEMENT_REQUIRED, Status.WITHDRAWN)
)
"""Where it also matters whether it was ever accepted, which an import may tell by a step alone."""
_ALONE: dict[int, Telling] = {status.value: (status.value, True, ()) for status in Status}


def telling(packed: bytes) -> Telling:
    """What decides the situation that anyone is told of: records that give the same are in the same situation.

    Steps that do not decide it are left out: decoding them costs as much as all else of a page. Raises like `unpack`.
    """
    status = _unpack_beginning(packed).status
    if _DECIDES.get(status, b"processing") not in packed:
        if status not in _DECIDED_BY_ACCEPTANCE:
            return _ALONE[status]
        essence = unpack_essence(packed)
        if (received := essence.received_at != _NULL) or b"received" not in packed:
            return status, received, ()
    essence = unpack_essence(packed)
    steps = [] if essence.timeline == _NULL else _unpack_passed(essence.timeline)
    steps.sort(key=_at)
    return status, essence.received_at != _NULL, tuple([step.status for step in steps])


def _slugs(timeline: msgspec.Raw) -> list[str]:
    return [] if timeline == _NULL else [step.status for step in _unpack_slugs(timeline)]


_stored_steps = msgspec.json.Decoder(list[_StoredStep]).decode
_stored_pauses = msgspec.json.Decoder(list[_StoredPause]).decode


def steps(timeline: str) -> tuple[Step, ...]:
    """The steps of a dossier's timeline, which PostgreSQL returns as JSON text."""
    return tuple(Step(*msgspec.structs.astuple(step)) for step in _stored_steps(timeline))


def pauses(text: str) -> tuple[Pause, ...]:
    """The pauses of its time limit, which PostgreSQL returns as JSON text; the last one may still last."""
    return tuple(Pause(*msgspec.structs.astuple(pause)) for pause in _stored_pauses(text))


class Shows(Enum):
    """Fields an installation may add to the anonymous view. Off by default.

    The number of working days between the date in the code and the due date tells the kind of benefit, often a health
    matter, and `overdue` tells the due date to whoever looks daily: so DUE is one of them.
    """

    DUE = "due"
    DATES = "dates"
    OFFICIAL_NUMBER = "official_number"
    AGENCY = "agency"
    SERVICE = "service"


class Anonymous(msgspec.Struct, frozen=True):
    """The smallest anonymous view, ready to be encoded (TT 01/2018, art. 16(2)d)."""

    code: str
    status: StatusSlug
    status_number: int
    final: bool
    completion: float
    version: int

    @classmethod
    def of(cls, record: Record | Essence) -> "Anonymous":
        """The view of this record."""
        slug, final = _STATUSES[record.status]
        return cls(record.code, slug, record.status, final, record.completion(), record.version)


_STATUSES = {status.value: (status.slug, status.final) for status in Status}
_COMPLETION = {status.value: completion(status, True, ()) for status in Status}
"""Status → its completion when accepted, and not processed unless the status says so."""


class AnonymousView(Anonymous, frozen=True, kw_only=True):
    """What anyone who has the code may see: the smallest view, and the fields that this installation adds.

    `stale` and `as_of` are there while it may be out of date; it is as it was known at `as_of`.
    """

    due_on: date | UnsetType | None = UNSET
    submitted_at: Zoned | UnsetType = UNSET
    received_at: Zoned | UnsetType | None = UNSET
    finished_at: Zoned | UnsetType | None = UNSET
    returned_at: Zoned | UnsetType | None = UNSET
    official_number: str | UnsetType | None = UNSET
    agency: Named | UnsetType = UNSET
    service: Named | UnsetType = UNSET
    stale: bool | UnsetType = UNSET
    as_of: Zoned | UnsetType = UNSET


class ShownStep(msgspec.Struct, frozen=True):
    """A step as the holder sees it: when, which status, the agency and department that set it; the rest as in Step."""

    at: Zoned
    status: StatusSlug
    agency: Named
    department: str | None
    late: bool = False
    due_at: Zoned | None = None
    task: int | None = None
    work: str | None = None


class ShownPause(msgspec.Struct, frozen=True):
    """A pause of the time limit as the holder sees it, as in Pause."""

    status: StatusSlug
    since: Zoned
    until: Zoned | None
    policy: str
    due_before: Zoned | None


class ShownReceipt(msgspec.Struct, frozen=True):
    """What of the receipt the holder sees: the dossier's code, and the address of its page."""

    number: str
    link: str


class HolderView(Anonymous, frozen=True, kw_only=True):
    """What the holder of the receipt sees: dates, service, agencies, steps by department, what to supply, what came of
    it and why, and the pauses of its time limit.

    `stale` and `as_of` are there while it may be out of date; it is as it was known at `as_of`.
    """

    due_at: Zoned | None
    submitted_at: Zoned
    received_at: Zoned | None
    finished_at: Zoned | None
    returned_at: Zoned | None
    service: Named
    agency: Named
    origin: Named | None
    official_number: str | None
    timeline: list[ShownStep]
    action_needed: str | None
    outcome: str | None
    reason: str | None
    pauses: list[ShownPause]
    supplements: int
    reappointments: int
    receipt: ShownReceipt
    stale: bool | UnsetType = UNSET
    as_of: Zoned | UnsetType = UNSET


def anonymous_view(record: Record, shows: frozenset[Shows], catalogue: Catalogue) -> AnonymousView:
    """What anyone who has the code may see (TT 01/2018, art. 16(2)d): status, completion and version, and `shows`.

    A due date is then a day, without the hour: that would be the time of day of the submission. The name of a sensitive
    service is never in it, whatever is switched on: it discloses a health matter.
    """
    added: dict[str, Any] = {}
    if Shows.DUE in shows:
        added["due_on"] = record.due_at and record.due_at.astimezone(VIETNAM).date()
    if Shows.DATES in shows:
        added |= _dates(record)
    if Shows.OFFICIAL_NUMBER in shows:
        added["official_number"] = record.official_number
    if Shows.AGENCY in shows:
        added["agency"] = catalogue.agency_view(record.agency)
    if Shows.SERVICE in shows and not catalogue.is_sensitive(record.service):
        added["service"] = catalogue.service_view(record.service)
    return AnonymousView(*msgspec.structs.astuple(Anonymous.of(record)), **added)


def holder_view(record: Record, catalogue: Catalogue, receipt: ShownReceipt) -> HolderView:
    """The anonymous view and what only the holder sees."""
    named = catalogue.agency_view
    return HolderView(
        *msgspec.structs.astuple(Anonymous.of(record)),
        due_at=local(record.due_at),
        **_dates(record),
        service=catalogue.service_view(record.service),
        agency=named(record.agency),
        origin=named(record.origin) if record.origin else None,
        official_number=record.official_number,
        timeline=[
            ShownStep(
                *(local(step.at), step.status, named(step.agency), step.department),
                *(step.late, local(step.due_at), step.task, step.work),
            )
            for step in record.timeline
        ],
        action_needed=record.action_needed,
        outcome=record.outcome,
        reason=record.reason,
        pauses=[
            ShownPause(
                *(Status(pause.status).slug, local(pause.since), local(pause.until)),
                *(pause.policy, local(pause.due_before)),
            )
            for pause in record.pauses
        ],
        supplements=record.supplements,
        reappointments=record.reappointments,
        receipt=receipt,
    )


def _dates(record: Record) -> dict[str, Any]:
    return {
        "submitted_at": local(record.submitted_at),
        "received_at": local(record.received_at),
        "finished_at": local(record.finished_at),
        "returned_at": local(record.returned_at),
    }


COLUMNS: Mapping[str, str] = {
    "code": "text",
    "version": "int4",
    "status": "int2",
    "service": "text",
    "agency": "text",
    "submitted_at": "timestamptz",
    "received_at": "timestamptz",
    "due_at": "timestamptz",
    "finished_at": "timestamptz",
    "returned_at": "timestamptz",
    "official_number": "text",
    "action_needed": "text",
    "timeline": "jsonb",
    "key_serial": "int2",
    "origin": "text",
    "outcome": "text",
    "reason": "text",
    "pauses": "jsonb",
    "supplements": "int2",
    "reappointments": "int2",
    "removed": "bool",
}
"""The columns of table `dossier` that a record is read from, with their types: Record's fields in their order, then
`removed`."""


def pack_row(row: Sequence[Any]) -> bytes:
    """The values of COLUMNS as the bytes the caches hold; empty for a removed dossier, which has no content."""
    *fields, timeline, key_serial, origin, outcome, reason, paused, supplements, reappointments, removed = row
    if removed:
        return b""
    told = (origin, outcome, reason, pauses(paused), supplements, reappointments)
    return pack((*fields, tuple(map(_packed_step, steps(timeline))), key_serial, *told))


def _packed_step(step: Step) -> Step | tuple[Any, ...]:
    """An ordinary step without the fields that only others have: every answer to anyone passes over them."""
    ordinary = step.moves and step.work is None
    return (step.at, step.status, step.agency, step.department) if ordinary else step
