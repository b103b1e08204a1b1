"""Turns untrusted JSON into a request for a change, or refuses it with a reason. No I/O."""

import hashlib
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from intake.rules.channels import CHANNELS, checked
from intake.rules.texts import before_composing, clean, clean_fields, repeated_key
from lookup.status import FIRST, FirstSlug, Status, StatusSlug
from ops.errors import Kind, Malformed, Refusal

_WORD, _LINE, _SUBJECT, _TEXT = 64, 300, 1000, 4000
"""The most characters of a composed text; what is sent may be decomposed."""
Word = Annotated[str, Meta(min_length=1, max_length=before_composing(_WORD))]
Line = Annotated[str, Meta(min_length=1, max_length=before_composing(_LINE))]
Subject = Annotated[str, Meta(max_length=before_composing(_SUBJECT))]
Text = Annotated[str, Meta(min_length=1, max_length=before_composing(_TEXT))]
Moment = Annotated[datetime, Meta(tz=True)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""No due date is later."""
TOLERANCE = timedelta(minutes=5)
"""How far the clock of a source may be ahead of the database's."""


class MalformedJson(Malformed):
    """The body is not JSON."""

    code = "malformed_json"
    title = "The body is not well-formed JSON."
    title_vi = "Nội dung gửi lên không phải là JSON hợp lệ."


class InvalidContent(Refusal):
    """The body is JSON of another shape than the request has; the detail names the field."""

    kind = Kind.UNPROCESSABLE
    code = "invalid_content"
    title = "The body has a field that is missing, unknown, or of the wrong type or size."
    title_vi = "Nội dung có trường bị thiếu, không được hỗ trợ, hoặc sai kiểu dữ liệu."


class UnknownStatus(Refusal):
    """No national status has this name."""

    kind = Kind.UNPROCESSABLE
    code = "unknown_status"
    title = "There is no such status."
    title_vi = "Không có trạng thái này."


_OF_AN_APPLICANT = {"name": _LINE, "id": _WORD, "phone": _WORD, "email": _LINE, "address": _LINE}


class Applicant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The applicant. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    name: Line
    kind: Annotated[int, Meta(ge=1, le=4)] = 1
    id: Word | None = None
    phone: Word | None = None
    email: Line | None = None
    address: Line | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText, which msgspec turns into its ValidationError."""
        clean_fields(self, _OF_AN_APPLICANT)


class Brought(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A document that was handed in; `copies` as the receipt says it, such as "01 bản chính"."""

    name: Line
    copies: Word | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"name": _LINE, "copies": _WORD})


class ActsFor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The person who acts for the applicant. `authority`: the paper that says so."""

    name: Line
    id: Word | None = None
    authority: Line | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"name": _LINE, "id": _WORD, "authority": _LINE})


class OnReceipt(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What stands on the receipt besides the dossier itself. It is kept on that paper only.

    `documents`: those that were handed in; null: those that the catalogue asks for. `sets`: of how many each.
    `result_by`: how the applicant wants the result.
    """

    documents: Annotated[list[Brought], Meta(max_length=50)] | None = None
    sets: Annotated[int, Meta(ge=1, le=99)] | None = None
    result_by: Literal["counter", "post", "electronic"] | None = None
    representative: ActsFor | None = None


Address = Annotated[str, Meta(min_length=3, max_length=254, pattern="^[!-~][ -~]*[!-~]$")]


class Notify(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the applicant agreed to be told what becomes of the dossier.

    `mail`: a mail address. `gateway`: what the installation's gateway takes, such as a telephone number.
    """

    mail: Address | None = None
    gateway: Address | None = None

    def __post_init__(self) -> None:
        """Check the addresses. Raises NoAddress, which msgspec turns into its ValidationError."""
        for channel, address in self.addresses.items():
            msgspec.structs.force_setattr(self, channel, checked(channel, address))

    @property
    def addresses(self) -> dict[str, str]:
        """Channel → address, of those that were given."""
        return {channel: address for channel in CHANNELS if (address := getattr(self, channel)) is not None}


class ConsentRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The address at which the applicant agreed to be told, by the channel that the path names."""

    address: Address


class Submission(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A dossier as a one-stop desk or a portal submits it.

    `status` is `received` (the default at a counter or by post) or `submitted` (the default online);
    `submitted_at` defaults to now. `result` is `at_once` where the applicant leaves with the result, for a service that
    provides for it; then there is a receipt only if `receipt` asks for one. `on_receipt` is for a dossier that is
    accepted at once; other ones get it with the transition that accepts them. `notify`: where the applicant agreed to
    be told what becomes of it.
    """

    agency: Word
    service: Word
    applicant: Applicant
    service_case: Word = "default"
    channel: Literal["direct", "online", "postal"] = "online"
    status: FirstSlug | None = None
    submitted_at: Moment | None = None
    department: Line | None = None
    officer: Line | None = None
    subject: Subject | None = None
    result: Literal["at_once"] | None = None
    receipt: bool = False
    on_receipt: OnReceipt | None = None
    notify: Notify | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        if self.subject is not None and not self.subject.strip():
            msgspec.structs.force_setattr(self, "subject", None)
        words = dict.fromkeys(("agency", "service", "service_case"), _WORD)
        clean_fields(self, words | {"department": _LINE, "officer": _LINE, "subject": _SUBJECT})

    @property
    def first_status(self) -> Status:
        """The first status of the dossier."""
        if self.status is None:
            return Status.SUBMITTED if self.channel == "online" else Status.RECEIVED
        return Status.from_slug(self.status)


class Transition(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A move to another status, or to another unit in the same status. `at` defaults to now.

    `note` is shown to the holder: what is asked of him, or the reason of a refusal, withdrawal or suspension. `items`
    lists what a supplement has to bring. `outcome` is that of a completion, `granted` by default. `override` says why
    it is done although a rule of the service asks for a reason. It and `officer` are kept in the event log and never
    shown to the public. `on_receipt` is for a move that accepts the dossier.
    """

    to: StatusSlug
    at: Moment | None = None
    agency: Word | None = None
    department: Line | None = None
    note: Text | None = None
    items: Annotated[list[Line], Meta(max_length=50)] = []
    outcome: Literal["granted", "refused", "partly"] | None = None
    override: Text | None = None
    officer: Line | None = None
    expected_version: Version | None = None
    on_receipt: OnReceipt | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        longest = {"agency": _WORD, "department": _LINE, "officer": _LINE, "note": _TEXT, "override": _TEXT}
        clean_fields(self, longest, lines=frozenset({"note", "override"}))
        msgspec.structs.force_setattr(self, "items", [clean(item, _LINE) for item in self.items])

    @property
    def status(self) -> Status:
        """The status to move to."""
        return Status.from_slug(self.to)


class OfficialNumber(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The number that an agency gave a dossier after accepting it."""

    number: Word
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Clean the number. Raises UnclearText."""
        clean_fields(self, {"number": _WORD})


class CorrectedApplicant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The fields of the applicant that were written wrongly; the others stay."""

    name: Line | msgspec.UnsetType = msgspec.UNSET
    kind: Annotated[int, Meta(ge=1, le=4)] | msgspec.UnsetType = msgspec.UNSET
    id: Word | msgspec.UnsetType | None = msgspec.UNSET
    phone: Word | msgspec.UnsetType | None = msgspec.UNSET
    email: Line | msgspec.UnsetType | None = msgspec.UNSET
    address: Line | msgspec.UnsetType | None = msgspec.UNSET

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        said = {name: most for name, most in _OF_AN_APPLICANT.items() if getattr(self, name) is not msgspec.UNSET}
        clean_fields(self, said)


class CorrectionRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What was written wrongly, as it should be, and why. The due date that was promised stays."""

    reason: Text
    agency: Word | None = None
    service: Word | None = None
    service_case: Word | None = None
    channel: Literal["direct", "online", "postal"] | None = None
    submitted_at: Moment | None = None
    official_number: Word | None = None
    applicant: CorrectedApplicant = CorrectedApplicant()
    subject: Subject | msgspec.UnsetType | None = msgspec.UNSET
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        said = {} if self.subject is msgspec.UNSET else {"subject": _SUBJECT}
        clean_fields(self, _CORRECTED | said, lines=frozenset({"reason"}))


_CORRECTED = dict.fromkeys(("agency", "service", "service_case", "official_number"), _WORD) | {
    "reason": _TEXT,
    "officer": _LINE,
}


class KeyRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The lookup key of a dossier; with `reissue` a new one, and the old ones open it no longer."""

    reissue: bool = False
    reason: Line | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"reason": _LINE, "officer": _LINE})


class NewDueDate(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A later due date, with the reason that the holder reads. `override` as in a transition."""

    due_at: Moment
    reason: Text
    override: Text | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        longest = {"reason": _TEXT, "override": _TEXT, "officer": _LINE}
        clean_fields(self, longest, lines=frozenset({"reason", "override"}))


class NewLead(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Another agency that leads from now on, and why."""

    agency: Word
    reason: Text
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"agency": _WORD, "reason": _TEXT, "officer": _LINE}, lines=frozenset({"reason"}))


class NewTask(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A task for an agency. `after`: the task that has to end first. `due_at`: by default the dossier's."""

    agency: Word
    work: Line
    kind: Literal["work", "opinion", "transfer"] = "work"
    after: Annotated[int, Meta(ge=1, le=12)] | None = None
    due_at: Moment | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"agency": _WORD, "work": _LINE, "officer": _LINE})


class TaskStep(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is done about a task. `reason`: of one that is refused or cancelled; of a question, its words."""

    reason: Line | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"reason": _LINE, "officer": _LINE})


class NewPaper(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A paper that changes nothing else: a control slip, or an apology without a new date, which needs its reason."""

    form: Literal["control", "apology"]
    reason: Text | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    def __post_init__(self) -> None:
        """Compose and clean the texts. Raises UnclearText."""
        clean_fields(self, {"reason": _TEXT, "officer": _LINE}, lines=frozenset({"reason"}))


_STATUS_REFUSED = re.compile(r"Invalid enum value ['\"](.*)['\"] - at `\$\.(?:to|status)`", re.DOTALL)
"""What msgspec says of another word for a status."""

Shape = TypeVar("Shape")
Content = TypeVar(
    "Content",
    Submission,
    Transition,
    OfficialNumber,
    CorrectionRequest,
    KeyRequest,
    NewDueDate,
    NewLead,
    NewTask,
    TaskStep,
    NewPaper,
    ConsentRequest,
)


def read(body: bytes, shape: type[Content]) -> Content:
    """The body as this shape. Raises MalformedJson, InvalidContent or UnknownStatus."""
    if not body.strip():
        raise MalformedJson("The body is empty; it has to be a JSON object, {} at the least.")
    try:
        content = msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _not_so(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(str(error)) from None
    if (key := repeated_key(body)) is not None:
        raise InvalidContent(f"{key[:64]}: the body says it more than once")
    return content


def read_value(value: Any, shape: type[Shape]) -> Shape:
    """JSON that is decoded already as this shape. Raises InvalidContent or UnknownStatus."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise _not_so(error) from None


def _not_so(error: msgspec.ValidationError) -> Refusal:
    if (status := _STATUS_REFUSED.fullmatch(str(error))) is None:
        return InvalidContent(str(error))
    begins = " or ".join(first.slug for first in sorted(FIRST))
    try:
        return InvalidContent(f"status: a dossier begins as {begins}, not as {named_status(status[1]).slug}")
    except UnknownStatus as unknown:
        return unknown


def fingerprint(path: str, body: bytes) -> bytes:
    """32 bytes that a repeat with the same idempotency key must equal, whatever its spacing and order of fields.

    Of the request as sent, not as read: what a newer release adds to a request does not refuse the repeat of one that
    an older release took in. Raises MalformedJson for what is no JSON.
    """
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(str(error)) from None
    return hashlib.sha256(path.encode() + b"\0" + msgspec.json.encode(sent, order="sorted")).digest()


def named_status(slug: str) -> Status:
    """The status with this slug. Raises UnknownStatus."""
    try:
        return Status.from_slug(slug)
    except ValueError:
        raise UnknownStatus(f"The statuses are {', '.join(status.slug for status in Status)}.") from None


def action_needed(status: Status, note: str | None) -> str | None:
    """What the holder has to do: the note of a step to a status that asks for something; None for any other status."""
    return nfc(note) if status.asks else None


def nfc(text: str | None) -> str | None:
    """Vietnamese text in its composed form (NFC), in which all text is stored."""
    return text and unicodedata.normalize("NFC", text)
