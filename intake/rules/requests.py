"""Turns untrusted JSON into a submission, a transition or an official number, or refuses it with a reason. No I/O."""

import hashlib
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from lookup.status import FIRST, Status
from ops.errors import Kind, Malformed, Refusal

_CLEAN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=_CLEAN)]
Line = Annotated[str, Meta(min_length=1, max_length=300, pattern=_CLEAN)]
Text = Annotated[str, Meta(min_length=1, max_length=4000, pattern=_CLEAN)]
Moment = Annotated[datetime, Meta(tz=True)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
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


class Applicant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The applicant. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    name: Line
    kind: Annotated[int, Meta(ge=1, le=4)] = 1
    id: Word | None = None
    phone: Word | None = None
    email: Line | None = None
    address: Line | None = None


class Submission(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A dossier as a one-stop desk or a portal submits it.

    `status` is `received` (the default at a counter or by post) or `submitted` (the default online);
    `submitted_at` defaults to now.
    """

    agency: Word
    service: Word
    applicant: Applicant
    service_case: Word = "default"
    channel: Literal["direct", "online", "postal"] = "online"
    status: Word | None = None
    submitted_at: Moment | None = None
    department: Line | None = None
    officer: Line | None = None
    subject: Annotated[str, Meta(max_length=1000, pattern=_CLEAN)] | None = None

    @property
    def first_status(self) -> Status:
        """The first status of the dossier. Raises UnknownStatus, or InvalidContent if no dossier begins with it."""
        if self.status is None:
            return Status.SUBMITTED if self.channel == "online" else Status.RECEIVED
        status = named_status(self.status)
        if status not in FIRST:
            raise InvalidContent(f"status: a dossier begins as submitted or received, not as {status.slug}")
        return status


class Transition(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A move to another status, or to another unit in the same status. `at` defaults to now.

    `note` is shown to the holder if `action_needed` says so. `officer` is kept in the event log and never shown to the
    public.
    """

    to: Word
    at: Moment | None = None
    agency: Word | None = None
    department: Line | None = None
    note: Text | None = None
    officer: Line | None = None
    expected_version: Version | None = None

    @property
    def status(self) -> Status:
        """The status to move to. Raises UnknownStatus."""
        return named_status(self.to)


class OfficialNumber(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The number that an agency gave a dossier after accepting it."""

    number: Word
    expected_version: Version | None = None


Content = TypeVar("Content", Submission, Transition, OfficialNumber)


def read(body: bytes, shape: type[Content]) -> Content:
    """The body as this shape. Raises MalformedJson or InvalidContent."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidContent(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(str(error)) from None


def fingerprint(path: str, content: Submission | Transition | OfficialNumber) -> bytes:
    """32 bytes that a repeat with the same idempotency key must equal, whatever its spacing and order of fields."""
    return hashlib.sha256(path.encode() + b"\0" + msgspec.json.encode(content, order="sorted")).digest()


def named_status(slug: str) -> Status:
    """The status with this slug. Raises UnknownStatus."""
    try:
        return Status.from_slug(slug)
    except ValueError:
        raise UnknownStatus(f"The statuses are {', '.join(status.slug for status in Status)}.") from None


def plausible(moment: datetime | None, now: datetime, field: str) -> datetime:
    """The moment, or now for None. Raises InvalidContent for a moment in the future or before 1990."""
    if moment is None:
        return now
    if not EARLIEST <= moment <= now + TOLERANCE:
        raise InvalidContent(f"{field}: {moment.isoformat()} is in the future or before 1990")
    return moment


def action_needed(status: Status, note: str | None) -> str | None:
    """What the holder has to do: the note of a step to a status that asks for something; None for any other status."""
    return nfc(note) if status.asks else None


def nfc(text: str | None) -> str | None:
    """Vietnamese text in its composed form (NFC), in which all text is stored."""
    return text and unicodedata.normalize("NFC", text)
