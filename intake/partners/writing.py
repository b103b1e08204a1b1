"""What lines make of dossiers, in memory: each by the rules of every other change, and wholly or not at all. No I/O."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from intake.books.dossier import NewDossier, public_step, timeline
from intake.books.ledger import record_of, require_not_moving_by_itself, require_open_for_clients
from intake.books.seal import PERSON_COLUMNS, SealKeys, new_salt, person_digest
from intake.books.sequences import HIGHEST_NUMBER, sequence_of
from intake.clients import Client
from intake.dialects import History
from intake.dialects.dated import applied_step
from intake.partners.answers import LineAnswer
from intake.partners.lines import CREATED_THOUGH_UPDATING, EXISTED_ALREADY, Rejected, Told, ToldStep
from intake.refusals import IdReused, NumberTaken, UnknownAgency, UnknownDossier, UnknownService
from intake.rules import reconcile
from intake.rules.apply import apply, code_day
from intake.rules.changes import Applied, Binding, Given, Move, Note, Reception, State
from intake.rules.reconcile import Step, why_kept
from intake.rules.requests import InvalidContent, nfc
from intake.rules.scope import may_change
from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.code import DossierCode, Scheme
from lookup.lookup_key import KeyRing
from lookup.status import Status
from ops.errors import Refusal


@dataclass(frozen=True, slots=True)
class Moment:
    """The transaction's time by the database's clock, the epoch, and for how long a change has waited for delivery."""

    now: datetime
    epoch: int
    lag: float


@dataclass(frozen=True, slots=True)
class Partner:
    """Whose lines are written, and by which catalogue, keys and seals."""

    client: Client
    catalogue: Catalogue
    keys: KeyRing
    seals: SealKeys


def rejected(line: Told, code: str, detail: str) -> LineAnswer:
    """The answer to a line that is refused."""
    return LineAnswer(line.number, line.id, "rejected", dossier=line.code.text, code=code, detail=detail[:300])


def step_of(at: datetime, status: int) -> Step:
    """A step without its agency, which may have changed its name since."""
    return Step(at.astimezone(UTC), int(status), "")


@dataclass
class Fold:
    """What the lines make of the dossiers, in memory: their states, and the rows to write."""

    partner: Partner
    moment: Moment
    states: dict[str, State]
    taken: set[str]
    steps: dict[str, set[Step]] = field(default_factory=dict)
    dossiers: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    raised: dict[tuple[str, Any], int] = field(default_factory=dict)
    answered: dict[str, tuple[Told, LineAnswer]] = field(default_factory=dict)

    def answer(self, line: Told) -> LineAnswer:
        """The answer to this line; nothing of a refused one is written."""
        if line.id in self.answered:
            return self._twice(line, *self.answered[line.id])
        writing = _Writing(self, line)
        try:
            answer = writing.answer()
        except Rejected as refused:
            return rejected(line, refused.code, refused.detail)
        except Refusal as refusal:
            return rejected(line, refusal.code, refusal.detail or refusal.title)
        writing.keep()
        if answer.result != "duplicate":
            self.answered[line.id] = line, answer
        return answer

    def _twice(self, line: Told, first: Told, answer: LineAnswer) -> LineAnswer:
        if (line.code, line.status, line.at) != (first.code, first.status, first.at):
            return rejected(line, IdReused.code, "This id stands in this body with another dossier, status or at.")
        return LineAnswer(line.number, line.id, "duplicate", dossier=answer.dossier, version=answer.version)

    @property
    def given(self) -> Given:
        return Given(self.moment.now, self.partner.catalogue)


class _Writing:
    """One line, applied to copies: `keep` takes them over."""

    def __init__(self, fold: Fold, line: Told) -> None:
        self._fold = fold
        self._line = line
        self._client = fold.partner.client
        self._state = self._before = fold.states.get(line.code.text)
        self._events: list[tuple[Applied, str | None, bytes | None, bytes]] = []
        self._dossier: NewDossier | None = None
        self._steps = set(fold.steps.get(line.code.text, ()))

    @property
    def _known(self) -> State:
        if self._state is None:
            raise UnknownDossier
        return self._state

    def keep(self) -> None:
        """Take over what the line has changed."""
        code = self._line.code.text
        if self._state is not None:
            self._fold.states[code] = self._state
        self._fold.steps[code] = self._steps
        if self._dossier is not None:
            self._fold.dossiers.append(self._dossier.row())
            self._raise_sequence()
        named = next((n for n, (event, *_) in enumerate(self._events) if self._tells_the_status(event)), 0)
        for n, (applied, officer, person, salt) in enumerate(self._events):
            record = record_of(
                applied,
                epoch=self._fold.moment.epoch,
                source=self._client.id,
                source_event_id=self._line.id if n == named else None,
                actor=f"{self._client.id}/{nfc(officer)}" if officer else self._client.id,
                person=person,
            )
            self._fold.events.append(record.row(salt, self._fold.partner.seals))

    def _tells_the_status(self, applied: Applied) -> bool:
        """Whether a repeat of the line is compared with this event."""
        event, wanted = applied.event or {}, self._line.status
        return (
            not self._line.digested and wanted is not None and (event.get("step_status") or event["status"]) == wanted
        )

    def answer(self) -> LineAnswer:
        """What becomes of the line. Raises Refusal, Rejected."""
        line, flags = self._line, list[str]()
        created = self._state is None
        if created:
            flags += self._create()
        else:
            self._may_change()
            if line.creation is not None and (line.updating is False or not line.digested):
                flags.append(EXISTED_ALREADY)
        kept = self._take_steps(line.creating if created else line.steps, flags)
        bound = self._bind()
        state = self._known
        answer = LineAnswer(line.number, line.id, "applied", dossier=state.code, version=state.version)
        if created:
            answer.result = "created"
            answer.lookup_key = self._fold.partner.keys.key(line.code, state.key_serial)
        elif not self._events:
            answer.result = "duplicate"
        elif kept and kept + bound == len(self._events):
            answer.result = "kept"
        answer.flags = list(dict.fromkeys(flags)) or None
        return answer

    # -- unknown dossiers --

    def _create(self) -> list[str]:
        line, new = self._line, self._line.creation
        catalogue, client = self._fold.partner.catalogue, self._client
        if new is None:
            raise UnknownDossier
        if not (line.creating or line.digested):
            for step in line.steps:
                _require_of_a_reception(step, new.agency)
        client.require("sync", catalogue.issuing(line.code.agency), catalogue)
        if line.code.text in self._fold.taken:
            raise NumberTaken(f"{line.code.text} is the official number of a dossier.")
        if new.agency not in catalogue.agencies:
            raise UnknownAgency(f"There is no agency {new.agency}.")
        client.require("sync", new.agency, catalogue)
        for agency in (catalogue.issuing(line.code.agency), new.agency):
            require_open_for_clients(agency, catalogue)
        service = catalogue.services.get(new.service)
        if service is None or new.service_case not in {limit.service_case for limit in service.times}:
            raise UnknownService(f"There is no service {new.service} with a case {new.service_case}.")
        reception = Reception(
            code=line.code.text,
            agency=new.agency,
            service=new.service,
            service_case=new.service_case,
            channel=new.channel,
            status=new.status,
            submitted_at=new.submitted_at,
            submitted_by=client.id,
            department=new.department,
            owner=client.id,
            source_seq=new.seq,
            due_at=new.due_at,
            by_sync=True,
        )
        applied = apply(None, reception, self._fold.given)
        if new.image is not None:
            applied = _with(applied, {name: value for name, value in new.image._asdict().items() if value is not None})
        state, salt = applied.state, new_salt()
        person = person_digest(salt, [new.person[name] for name in PERSON_COLUMNS])
        self._dossier = _first_row(state, new.department, new.person)
        self._steps.add(step_of(new.submitted_at or state.last_at, state.status))
        self._append(applied, new.officer, person, salt)
        return [CREATED_THOUGH_UPDATING] if line.updating else []

    def _raise_sequence(self) -> None:
        prefix, day, number = sequence_of(self._line.code)
        agency = self._fold.partner.catalogue.issuing(prefix) if self._line.code.scheme is not Scheme.D else prefix
        if number <= HIGHEST_NUMBER and agency in self._fold.partner.catalogue.agencies:
            self._fold.raised[agency, day] = max(number, self._fold.raised.get((agency, day), 0))

    # -- known ones --

    def _may_change(self) -> None:
        state, line = self._known, self._line
        if state.removed:
            raise UnknownDossier
        self._require(line.status or "number_bound")
        require_not_moving_by_itself(state, self._fold.partner.catalogue)
        if line.history is not None:
            self._same_dossier(state, line.history)

    def _require(self, what: Status | str) -> None:
        """Raise UnknownDossier unless this client may do this with the dossier as it was before the line."""
        before, catalogue = self._before, self._fold.partner.catalogue
        if before is None:
            return
        today = code_day(self._fold.moment.now)
        if not may_change(catalogue, self._client.agency, today, before.agency, before.origin, what):
            raise UnknownDossier

    def _same_dossier(self, state: State, history: History) -> None:
        """Raise HistoryDiffers when another dossier is stored under this code. An applicant may have been corrected."""
        theirs = reconcile.Told(
            service=history.service,
            service_case=history.service_case,
            agency="",
            submitted_at=history.submitted_at,
            person=b"",
            steps=(),
        )
        ours = dataclasses.replace(
            theirs, service=state.service, service_case=state.service_case, submitted_at=state.submitted_at
        )
        found = reconcile.reconcile(ours, theirs, strict=False)
        if found.refusal is not None:
            raise found.refusal

    def _take_steps(self, steps: Iterable[ToldStep], flags: list[str]) -> int:
        """Apply or keep those that are new; how many are kept."""
        kept = 0
        for step in steps:
            if step.at is not None:
                told = step_of(step.at, step.to)
                if self._line.digested and told in self._steps:
                    continue
                self._steps.add(told)
            why = self._why_not(step)
            if why is None:
                continue
            self._require(step.to)
            applied = self._noted(step, why) if why else self._moved(step)
            kept += bool(why)
            flags += applied.flags
            self._append(applied, step.officer)
        return kept

    def _why_not(self, step: ToldStep) -> tuple[str, ...] | None:
        """The flags with which the step is kept, none if it is applied; None if there is nothing to record."""
        state = self._known
        if step.timed:
            return why_kept(state, self._client.id, step.to, at=step.at, source_seq=step.seq)
        # The present status, and nothing says since when: an older line tells nothing, a newer one the status.
        older = state.owner is not None and state.source_seq is not None and (step.seq or 0) < state.source_seq
        if step.to is state.status or older or why_kept(state, self._client.id, step.to):
            return None
        return ()

    def _noted(self, step: ToldStep, why: tuple[str, ...]) -> Applied:
        if step.agency is not None and step.agency not in self._fold.partner.catalogue.agencies:
            raise UnknownAgency(f"There is no agency {step.agency}.")
        told = step.history
        note = Note(
            to=step.to,
            why=why,
            at=step.at,
            agency=step.agency,
            department=told.department if told else step.department,
            note=told.note if told else step.note,
            source_seq=step.seq,
        )
        return apply(self._state, note, self._fold.given)

    def _moved(self, step: ToldStep) -> Applied:
        state = self._known
        if step.history is not None and step.image is not None:
            told = step.history
            if not step.timed:
                told = msgspec.structs.replace(told, at=max(told.at, state.last_at))
            return applied_step(state, told, step.image, self._fold.given, by_sync=True, source_seq=step.seq)
        move = Move(
            to=step.to,
            at=step.at,
            agency=step.agency,
            department=step.department,
            note=step.note,
            outcome=step.outcome,
            by_sync=True,
            source_seq=step.seq,
            due_at=step.due_at,
        )
        return apply(state, move, self._fold.given)

    def _bind(self) -> int:
        """Bind the official number; how many events that makes."""
        if self._line.official_number is None:
            return 0
        self._require("number_bound")
        number = _official(self._line.official_number)
        state = self._known
        elsewhere = number.text in self._fold.taken and number.text != state.official_number
        applied = apply(state, Binding(number=number.text, elsewhere=elsewhere), self._fold.given)
        if applied.event is None:
            return 0
        self._append(applied, None)
        return 1

    def _append(
        self, applied: Applied, officer: str | None, person: bytes | None = None, salt: bytes | None = None
    ) -> None:
        self._state = applied.state
        self._events.append((applied, officer, person, salt or new_salt()))


def _with(applied: Applied, own: dict[str, Any]) -> Applied:
    """The same with the source's own dates, which no calendar counted."""
    if "due_at" in own:
        own["calendar"] = None
    return Applied(msgspec.structs.replace(applied.state, **own), (applied.event or {}) | own, applied.flags)


def _first_row(state: State, department: str | None, person: Mapping[str, Any]) -> NewDossier:
    return NewDossier(
        code=state.code,
        version=state.version,
        status=state.status,
        agency=state.agency,
        origin=state.origin,
        submitted_by=state.submitted_by,
        owner=state.owner,
        source_seq=state.source_seq,
        service=state.service,
        service_case=state.service_case,
        channel=state.channel,
        submitted_at=state.submitted_at,
        received_at=state.received_at,
        due_at=state.due_at,
        finished_at=state.finished_at,
        returned_at=state.returned_at,
        calendar=state.calendar,
        timeline=timeline(public_step(state.last_at, state.status, state.agency, department)),
        **person,
    )


def _require_of_a_reception(step: ToldStep, agency: str) -> None:
    """Raise InvalidContent where the step that is the reception says what a reception does not have."""
    if step.note or step.outcome or step.agency not in (None, agency):
        raise InvalidContent(
            f"{step.to.slug}: the reception has no note and no outcome, and its agency is that of `create`;"
            " tell them with the step behind it"
        )


def _official(text: str) -> DossierCode:
    number = codes.parse(text)
    if number.scheme is not Scheme.D:
        raise InvalidContent("official_number: it is written sequence/year/agency, as 01234/2026/99901")
    return number
