"""Deliveries in the form of the national portal's service CapNhatTienDoHoSoMC: progress only, nothing of persons.

No contract for pushing to the national portal is public, so what may differ is a mapping: the envelope, the names of
the fields, how an answer says that it was taken. It is a TOML file of the installation; docs/webhooks.md shows one.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from intake.outgoing.sending import Outcome
from intake.partners.changes import Page
from intake.partners.deliver import NotOffered
from intake.partners.subscriptions import Leased
from lookup.clock import VIETNAM
from ops.http.endpoints import encode

NATIONAL_TIME: Final = "%Y%m%d%H%M%S"
"""How the national services write a time, in Vietnam."""
ANSWER_BYTES: Final = 65_536
"""What is read of an answer at most; a longer one is no JSON object."""
TOLD_KINDS: Final = frozenset({"received", "moved"})
"""The kinds of events that are a step of progress. A step that was kept late is none: the status did not change."""

Source = Literal[
    "code", "status_number", "occurred_at", "recorded_at", "due_at", "agency", "version", "official_number"
]
"""What a field of a step may be filled from."""
Text = Annotated[str, Meta(min_length=1, max_length=200)]


class Envelope(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What stands around the list: its member's name, and other members with their texts."""

    list: Text = "data"
    members: dict[str, str] = {}


class Answer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a 2xx answer says whether it was taken: the values of one member."""

    member: Text = "error_code"
    taken: Annotated[tuple[str, ...], Meta(min_length=1)] = ("0",)


class PortalMapping(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The mapping of an installation. `url`: the only address that this format is sent to; `batch`: steps of a call."""

    url: Annotated[str, Meta(min_length=1, max_length=2000)]
    fields: Annotated[dict[str, Source], Meta(min_length=1)]
    constants: dict[str, str] = {}
    envelope: Envelope = Envelope()
    answer: Answer = Answer()
    batch: Annotated[int, Meta(ge=1, le=100)] = 10


def read_mapping(path: Path) -> PortalMapping:
    """The mapping in this file. Raises ValueError with one sentence that names the file."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), PortalMapping)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no mapping: {error}") from None


@dataclass(frozen=True, slots=True)
class National:
    """The format `national` with an installation's mapping."""

    mapping: PortalMapping
    reads: int = ANSWER_BYTES

    @property
    def events(self) -> int:
        """Steps of a call at most."""
        return self.mapping.batch

    def check(self, row: Leased) -> None:
        """Raises NotOffered for another address than the mapping's: what is sent has the installation's session."""
        if row.url != self.mapping.url:
            raise NotOffered("The national format is delivered to the address in the installation's mapping only.")

    def ping(self, row: Leased, message_id: str, now: datetime) -> bytes | None:
        """None: the national services have no ping, and the operator has named the address."""
        return None

    def body(self, page: Page) -> bytes | None:
        """The envelope with a step for each event that is one, bulk ones left out: they were there before."""
        steps = [self._step(row) for row in page.rows if row["kind"] in TOLD_KINDS and not row["bulk"]]
        if not steps:
            return None
        envelope = self.mapping.envelope
        return encode(envelope.members | {envelope.list: steps})

    def judged(self, outcome: Outcome) -> Outcome:
        """A 2xx answer took it only if its member says so; what it says otherwise is not repeated."""
        if outcome.error is not None:
            return outcome
        try:
            content = msgspec.json.decode(outcome.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return Outcome("The answer is no JSON object.")
        said = content.get(self.mapping.answer.member)
        if str(said) in self.mapping.answer.taken:
            return outcome
        code = str(said) if isinstance(said, int) or (isinstance(said, str) and said.isalnum()) else "none"
        return Outcome(f"The answer's {self.mapping.answer.member} is {code:.40}.")

    def _step(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: _value(row, source) for name, source in self.mapping.fields.items()}
        return {**self.mapping.constants, **{name: value for name, value in values.items() if value is not None}}


def _value(row: Mapping[str, Any], source: str) -> Any:
    if source == "status_number":
        return row["status"]
    value = row[source]
    return value.astimezone(VIETNAM).strftime(NATIONAL_TIME) if isinstance(value, datetime) else value
