"""A line of a synchronisation as a change of one dossier: our form, and the national one. No I/O.

Ours names its dossier, an id of the source's own, and the step; `create` says what an unknown dossier is. The national
form is known by `MaHoSo`: a dossier with its history (DongBoHoSoMC), or one entry of its progress
(CapNhatTienDoHoSoMC). It has no id, so its digest is its id, however it is spelt.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from intake.books.seal import PERSON_COLUMNS
from intake.dialects import History, HistoryStep, Refused, national, plausible, read_form
from intake.dialects.dated import Image, images, person_of
from intake.rules.requests import Line, Moment, Submission, Text, Word, nfc, read_value
from intake.rules.texts import UnclearText, clean_fields
from lookup import code as codes
from lookup.clock import VIETNAM
from lookup.code import DossierCode
from lookup.status import Status, StatusSlug
from ops.errors import Refusal

LONGEST_LINE: Final = 64 * 1024
"""Bytes."""
CREATED_THOUGH_UPDATING: Final = "created_though_updating"
EXISTED_ALREADY: Final = "existed_already"


class Rejected(Exception):
    """A line that is not applied: a code of the documented ones, and what is wrong with the line."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class SyncLine(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One line of our form: `id` is the source's own for this change, `source_seq` rises with its changes of a dossier.

    `status` is the step that is told, `at` when it happened (now, unless said); `agency`, `department`, `officer`,
    `note`, `due_at` and `outcome` belong to it. `create` is read where the dossier is unknown.
    """

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    dossier: Annotated[str, Meta(min_length=1, max_length=codes.LONGEST)]
    source_seq: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    status: StatusSlug | None = None
    at: Moment | None = None
    agency: Word | None = None
    department: Line | None = None
    officer: Line | None = None
    note: Text | None = None
    due_at: Moment | None = None
    official_number: Word | None = None
    outcome: Literal["granted", "refused", "partly"] | None = None
    create: Submission | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        if not self.id.isprintable() or not self.id.strip():
            raise UnclearText("id: it is blank, or contains a character that cannot be shown")
        longest = {"agency": 64, "department": 300, "officer": 300, "note": 4000, "official_number": 64}
        clean_fields(self, longest, lines=frozenset({"note"}))
        if self.status is None and self.official_number is None and self.create is None:
            raise ValueError("the line says nothing: give status, official_number or create")
        if self.status is None and any((self.agency, self.note, self.outcome, self.department)):
            raise ValueError("status: it is missing; agency, department, note and outcome belong to a step")
        if self.status is None and self.create is None and self.due_at is not None:
            raise ValueError("status: it is missing; due_at belongs to a step, or to what is created")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStep:
    """A step that a line tells. `image` are the source's own dates after it; `timed`: the line says when it was."""

    to: Status
    at: datetime | None = None
    seq: int | None = None
    agency: str | None = None
    department: str | None = None
    officer: str | None = None
    note: str | None = None
    outcome: str | None = None
    due_at: datetime | None = None
    history: HistoryStep | None = None
    image: Image | None = None

    @property
    def timed(self) -> bool:
        return self.history is None or self.history.timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What an unknown dossier is. `person`: its applicant and subject, by column."""

    agency: str
    service: str
    service_case: str
    channel: str
    status: Status
    submitted_at: datetime | None
    due_at: datetime | None
    department: str | None
    officer: str | None
    seq: int | None
    person: dict[str, Any]
    image: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line, read. `status` and `at` are compared when its id comes again; `digested`: its id is its digest.

    `creating`: the steps behind the creation, if the dossier is unknown; `steps`: those of a known one.
    """

    number: int
    raw: bytes
    id: str
    code: DossierCode
    steps: tuple[ToldStep, ...] = ()
    creation: Creation | None = None
    creating: tuple[ToldStep, ...] = ()
    official_number: str | None = None
    history: History | None = None
    updating: bool | None = None
    digested: bool = False

    @property
    def status(self) -> Status | None:
        return self.steps[-1].to if self.steps else None

    @property
    def at(self) -> datetime | None:
        return self.steps[-1].at if self.steps else None


def read_line(number: int, line: bytes) -> Told:
    """The line with this number. Raises Rejected."""
    try:
        form = read_form(line)
        if "MaHoSo" in form:
            return _national(number, line, form)
    except Refused as refused:
        raise Rejected(_CODES.get(refused.reason, refused.reason), refused.detail) from None
    if isinstance(form.get("data"), list):
        raise Rejected(
            "invalid_content", "This is a call of the national service. Send each object of its `data` as a line."
        )
    try:
        return _ours(number, line, read_value(form, SyncLine))
    except Refusal as refusal:
        raise Rejected(refusal.code, refusal.detail) from None


_CODES: Final = {
    "not_utf8": "malformed_json",
    "not_json": "malformed_json",
    "repeated_key": "invalid_content",
    "nul_character": "invalid_content",
    "wrong_shape": "invalid_content",
    "unclear_text": "invalid_content",
    "history_disagrees": "invalid_content",
    "impossible_history": "invalid_content",
    "date_in_future": "bad_date",
}
"""What a dialect refuses for → the code of the answer, where it is another word."""


def id_of(line: bytes) -> str | None:
    """The id of a line that is not worked on, if it can be read."""
    try:
        return msgspec.json.decode(line, type=_OnlyId).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def code_of(line: bytes) -> str | None:
    """The code of the dossier that a line names which is not worked on, in either form, if it can be read."""
    try:
        named = msgspec.json.decode(line, type=_OnlyCode)
        return codes.parse(named.dossier or named.MaHoSo).text
    except (msgspec.DecodeError, UnicodeDecodeError, codes.MalformedCode):
        return None


class _OnlyId(msgspec.Struct):
    id: Annotated[str, Meta(max_length=255)] | None = None


class _OnlyCode(msgspec.Struct):
    dossier: str = ""
    MaHoSo: str = ""


# -- our form --------------------------------------------------------------------------------------------------------


def _ours(number: int, raw: bytes, line: SyncLine) -> Told:
    step = None
    if line.status is not None:
        step = ToldStep(
            to=Status.from_slug(line.status),
            at=line.at,
            seq=line.source_seq,
            agency=line.agency,
            department=line.department,
            officer=line.officer,
            note=line.note,
            outcome=line.outcome,
            due_at=line.due_at,
        )
    creation, creating = (None, ()) if line.create is None else _created(line, line.create, step)
    return Told(
        number=number,
        raw=raw,
        id=line.id,
        code=codes.parse(line.dossier),
        steps=() if step is None else (step,),
        creation=creation,
        creating=creating,
        official_number=line.official_number,
    )


def _created(line: SyncLine, new: Submission, step: ToldStep | None) -> tuple[Creation, tuple[ToldStep, ...]]:
    """The reception, and the step behind it unless the reception is the step."""
    first, submitted_at = new.first_status, new.submitted_at
    if step is not None and step.to is first and submitted_at is not None and (step.at or submitted_at) > submitted_at:
        first = Status.SUBMITTED
    is_the_step = step is None or step.to is first
    applicant = new.applicant
    person = (
        *(applicant.kind, applicant.name, applicant.id, applicant.phone, applicant.email, applicant.address),
        new.subject,
    )
    creation = Creation(
        agency=new.agency,
        service=new.service,
        service_case=new.service_case,
        channel=new.channel,
        status=first,
        submitted_at=submitted_at or line.at,
        due_at=line.due_at if is_the_step else None,
        department=new.department or (line.department if is_the_step else None),
        officer=new.officer or line.officer,
        seq=line.source_seq if is_the_step else None,
        person=dict(zip(PERSON_COLUMNS, map(_composed, person), strict=True)),
    )
    return creation, () if is_the_step or step is None else (step,)


def _composed(value: Any) -> Any:
    return nfc(value) if isinstance(value, str) else value


# -- the national form -----------------------------------------------------------------------------------------------


def _national(number: int, raw: bytes, form: dict[str, Any]) -> Told:
    updating = form.pop("isUpdating", None)
    told = msgspec.json.encode(national.canonical(form), order="sorted")
    digest = hashlib.sha256(told).hexdigest()
    if "TrangThaiHoSo" not in form:
        entry = national.read_progress(form)
        step = ToldStep(
            to=entry.status,
            at=entry.at,
            seq=None if entry.at is None else _sequence(entry.at),
            department=entry.department,
            officer=entry.officer,
            note=entry.note,
        )
        return Told(number=number, raw=raw, id=digest, code=entry.code, steps=(step,), digested=True)
    history = plausible(national.read(form))
    steps = tuple(
        ToldStep(
            to=step.status,
            at=step.at if step.timed else None,
            seq=_sequence(step.at if step.timed else history.latest),
            agency=step.agency,
            officer=step.officer,
            history=step,
            image=image,
        )
        for step, image in zip(history.steps, images(history), strict=True)
    )
    first = history.steps[0]
    is_first = first.timed and first.at == history.submitted_at and first.status in (Status.SUBMITTED, Status.RECEIVED)
    creation = Creation(
        agency=history.agency,
        service=history.service,
        service_case=history.service_case,
        channel=history.channel,
        status=first.status if is_first else Status.SUBMITTED,
        submitted_at=history.submitted_at,
        due_at=None,
        department=first.department if is_first else None,
        officer=first.officer,
        seq=_sequence(history.submitted_at),
        person=dict(zip(PERSON_COLUMNS, person_of(history), strict=True)),
        image=steps[0].image if is_first else None,
    )
    return Told(
        number=number,
        raw=raw,
        id=digest,
        code=history.code,
        steps=steps,
        creation=creation,
        creating=steps[1:] if is_first else steps,
        history=history,
        updating=_yes(updating),
        digested=True,
    )


def _sequence(at: datetime) -> int:
    """A moment as the form writes it, as a number: later is higher."""
    return int(at.astimezone(VIETNAM).strftime("%Y%m%d%H%M%S"))


def _yes(flag: Any) -> bool | None:
    return None if flag in (None, "") else str(flag).strip().lower() in ("true", "1")
