"""Changes to dossiers: one transaction appends an event, and the dossier's row follows it.

What a change makes of a dossier is said by intake/rules/apply.py alone; who may ask for it by intake/rules/scope.py.

A COMMIT is never cancelled (unbroken.py). At the deadline the client gets OutcomeUnknown, and the transaction goes on.
A repeat with the same idempotency key reports the outcome.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from intake import metrics
from intake.books import applicant_rows, consents, history, paper_rows, task_rows
from intake.books.applicant_rows import INSERT_WITH_APPLICANT, search_row
from intake.books.dossier import NewDossier, public_step, timeline
from intake.books.event import APPEND_EVENT
from intake.books.reads import note_read
from intake.books.seal import PERSON_COLUMNS, EventRecord, SealKeys, jsonb_text, new_salt, person_digest
from intake.books.task_rows import TASKS_OF_D, tasks_in
from intake.books.unbroken import Unbroken
from intake.clients import Client, OutOfScope
from intake.refusals import (
    AgencyEnded,
    AgencyNotBegun,
    CannotNumber,
    KeyReused,
    NoPapers,
    NumberTaken,
    PaperErased,
    ServiceEnded,
    ServiceNotBegun,
    StillRunning,
    UnknownAgency,
    UnknownDossier,
    UnknownPaper,
    UnknownService,
    VersionMismatch,
)
from intake.rules.apply import apply, code_day
from intake.rules.changes import (
    Applied,
    AskLead,
    Binding,
    Change,
    Correction,
    EndTask,
    Given,
    IssuePaper,
    Lead,
    Move,
    OpenTask,
    OwnerChange,
    Pause,
    PutOff,
    Reception,
    Reissue,
    Removal,
    State,
)
from intake.rules.channels import Channel
from intake.rules.papers import Replaced, Said, content, form_of, issuer_of, year_of
from intake.rules.requests import (
    Applicant,
    CorrectionRequest,
    InvalidContent,
    KeyRequest,
    OfficialNumber,
    Submission,
    Transition,
    nfc,
)
from intake.rules.scope import may_change, may_read, moves_by_itself
from intake.rules.stamps import StampKey
from intake.rules.tasks import Task
from lookup import code as codes
from lookup import sandbox as sandboxes
from lookup.catalogue import Agency, Catalogue, Service, in_force
from lookup.clock import VIETNAM, local
from lookup.code import DossierCode, MalformedCode, Scheme
from lookup.status import Status
from ops.errors import Unavailable
from ops.observe import tracing
from ops.stores.postgres import TRANSACTION, Postgres

log = logging.getLogger(__name__)
T = TypeVar("T")

PRESENT_EPOCH: Final = "event_is_of_the_present_epoch"
"""The constraint that PostgreSQL names when it refuses events of an epoch that is not the newest (any more)."""

TRY_LOCK = """
SELECT pg_try_advisory_xact_lock(hashtextextended($1 || E'\\n' || $2, 24)) AS locked,
       now()                                                             AS now,
       (SELECT max(number) FROM epoch)                                   AS epoch
"""

MOMENT = """
SELECT now()                           AS now,
       (SELECT max(number) FROM epoch) AS epoch
"""

FIND_ANSWER = """
UPDATE idempotency
   SET replays = replays + 1
 WHERE client = $1 AND key = $2
RETURNING fingerprint, answer
"""

KEEP_ANSWER = """
INSERT INTO idempotency (client, key, fingerprint, answer)
VALUES ($1, $2, $3, $4)
"""

NEXT_IN_SEQUENCE = """
INSERT INTO daily_sequence AS s (agency, day, last)
VALUES ($1, $2, 1)
ON CONFLICT (agency, day) DO UPDATE
   SET last = s.last + 1
RETURNING last
"""

IS_TAKEN = """
SELECT EXISTS (SELECT FROM dossier WHERE code = $1)
    OR EXISTS (SELECT FROM dossier_number WHERE number = $1)
"""

# Locks the row, and reads of the log when the last status was set. Where it had to wait, the row is as the other
# transaction left it and the log as it was before: `newest` is then not the row's version. A timeline is stored
# compressed; joined with nothing it has the size that the constraint on it sees.
_STATE = f"""d.code, d.version, d.status, d.agency, d.origin, d.submitted_by, d.owner, d.source_seq, d.service,
       d.service_case, d.channel, d.submitted_at, d.received_at, d.due_at, d.finished_at, d.returned_at, d.calendar,
       d.pauses, d.supplements, d.reappointments, d.outcome, d.reason, d.action_needed, d.official_number, d.key_serial,
       d.removed,
       pg_column_size(d.timeline || '[]') AS timeline_bytes,
       (SELECT version
          FROM event
         WHERE event.code = d.code
         ORDER BY version DESC
         LIMIT 1)                    AS newest,
       (SELECT occurred_at
          FROM event
         WHERE event.code = d.code
           AND kind IN ('received', 'moved')
         ORDER BY version DESC
         LIMIT 1)                    AS last_at,
       {TASKS_OF_D} AS tasks"""

LOCK_DOSSIER = f"""
SELECT {_STATE},
       {", ".join(f"d.{name}" for name in PERSON_COLUMNS)}
  FROM dossier AS d
 WHERE d.code = $1
   FOR UPDATE
"""

# The same of many, one after the other in the order of the codes that are given: two transactions that lock some of the
# same cannot wait for one another. (Without the lateral each of sixteen partitions is searched for every code.)
LOCK_DOSSIERS = f"""
SELECT d.*
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT {_STATE}
                       FROM dossier AS d
                      WHERE d.code = wanted.code
                        FOR UPDATE) AS d
"""

# Those without a due date come last.
LIVE_TASKS = """
SELECT t.code, t.number, t.agency, t.kind, t.work, t.state, t.after, t.opened_at, t.version,
       nullif(t.due_at, 'infinity') AS due_at, d.status, d.service
  FROM task AS t
  JOIN dossier AS d ON d.code = t.code
 WHERE t.agency = $1
   AND t.state IN ('open', 'asked')
   AND ($2::timestamptz IS NULL OR t.due_at < $2)
   AND (t.due_at, t.code, t.number) > ($3::text::timestamptz, $4, $5)
 ORDER BY t.due_at, t.code, t.number
 LIMIT $6
"""

CORRECT_APPLICANT = f"""
UPDATE dossier
   SET {", ".join(f"{name} = ${n}" for n, name in enumerate(PERSON_COLUMNS, start=2))}
 WHERE code = $1
"""

OFFICERS_VIEW = f"""
SELECT code, version, status, service, service_case, agency, origin, submitted_by, channel, submitted_at, received_at,
       due_at, finished_at, returned_at, pauses, supplements, reappointments, outcome, reason, official_number,
       action_needed, timeline, subject, removed, key_serial,
       applicant_kind, applicant_name, applicant_id, applicant_phone, applicant_email, applicant_address,
       {TASKS_OF_D} AS tasks
  FROM dossier AS d
 WHERE code = $1
"""

OPERATOR: Final = "operator"
"""The source of events that an operator's command made."""

OneStop = PutOff | Lead | OpenTask | EndTask | AskLead | IssuePaper
MakePage = Callable[[Mapping[str, Any], int, int | None], Awaitable[bytes]]
_ABOUT: Final = {
    PutOff: "due_changed",
    Lead: "led_by",
    OpenTask: "task_opened",
    AskLead: "task_opened",
    EndTask: "task_ended",
    IssuePaper: "paper_issued",
}
"""Change → the kind of event, as the scope rule knows it."""

_NUMBER_TAKEN = {"dossier_number_pkey", "dossier_has_one_official_number", "official_number_is_no_dossiers_code"}
"""The constraints that a number violates which a race has bound elsewhere."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A client's request with its idempotency key, and the fingerprint that a repeat must equal."""

    client: Client
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _By:
    """Who makes a change: the source of the event, the source's own id for it, and the person or program."""

    source: str
    event_id: str | None
    actor: str

    @classmethod
    def client(cls, request: KeyedRequest, officer: str | None) -> "_By":
        named = f"{request.client.id}/{nfc(officer)}" if officer else request.client.id
        actor = request.client.officer or named
        return cls(request.client.id, request.key, actor)


@dataclass(frozen=True, slots=True)
class _Moment:
    """The transaction's time by the database's clock, and the epoch."""

    now: datetime
    epoch: int


@dataclass(frozen=True, slots=True)
class _Scribe:
    """Appends the events of changes, sealed. `backdating`: how many working days back a step may be dated.

    `stamp_key`: what stamps papers, or raises Unavailable; None where none are issued.
    """

    seals: SealKeys
    backdating: int
    stamp_key: Callable[[], StampKey] | None = None

    def given(self, moment: _Moment, catalogue: Catalogue) -> Given:
        return Given(moment.now, catalogue, self.backdating)

    async def change(
        self,
        connection: Any,
        moment: _Moment,
        before: State,
        change: Change,
        by: _By,
        catalogue: Catalogue,
        *,
        person: Mapping[str, Any] | None = None,
        said: Said | None = None,
    ) -> Applied:
        """Apply a change to a locked dossier. `person`: the applicant after it, if that changes.

        `said`: what a paper of it says besides; None: none is issued. Raises NoPapers for one that cannot be.
        """
        given = self.given(moment, catalogue)
        applied = apply(before, change, given)
        if applied.event is not None:
            applied, paper = await self.issue(connection, before, change, applied, said, given, by)
            try:
                await self.append(connection, moment, applied, by, person, paper)
            except asyncpg.UniqueViolationError as twice:
                if twice.constraint_name not in _NUMBER_TAKEN:
                    raise
                raise NumberTaken(f"{applied.state.official_number} belongs to another dossier.") from None
            await task_rows.write(connection, [(before.tasks, applied.state)])
        return applied

    async def issue(
        self,
        connection: Any,
        before: State | None,
        change: Change,
        applied: Applied,
        said: Said | None,
        given: Given,
        by: _By,
    ) -> tuple[Applied, Mapping[str, Any] | None]:
        """The change with the digest of the paper that it makes, and that paper's row; None for none.

        Until the transaction commits, others that number papers of the same agency and form wait. Papers are stamped
        for what is real: in the sandbox there are none. Raises NoPapers, Unavailable.
        """
        after = applied.state
        form = None if said is None else form_of(before, change, after, said)
        if form is None or said is None or self.stamp_key is None or given.catalogue.is_sandbox(after.origin):
            if isinstance(change, IssuePaper):
                raise NoPapers
            return applied, None
        key = self.stamp_key()
        sequence = (issuer_of(after, given), form, year_of(given))
        number = await connection.fetchval(paper_rows.NEXT_NUMBER, *sequence)
        written = content(form, number, before, change, after, said, given)
        digest, row = paper_rows.paper_row(written, key, by.source)
        event: dict[str, Any] = (applied.event or {}) | {"paper": digest}
        if isinstance(change, IssuePaper):
            event["detail"] = event["detail"] | {"number": number}
        told = {"form": form, "year": written.year, "number": number, "version": written.version}
        return replace(applied, event=event, paper=told), row

    async def append(
        self,
        connection: Any,
        moment: _Moment,
        applied: Applied,
        by: _By,
        person: Mapping[str, Any] | None,
        paper: Mapping[str, Any] | None = None,
    ) -> None:
        """Append the event of a change, and in the same statement the row of the paper that it issues."""
        salt = new_salt()
        record = record_of(
            applied,
            epoch=moment.epoch,
            source=by.source,
            source_event_id=by.event_id,
            actor=by.actor,
            person=None if person is None else person_digest(salt, [person[name] for name in PERSON_COLUMNS]),
        )
        try:
            event = record.row(salt, self.seals)
            if paper is None:
                appended = await connection.fetchrow(APPEND_EVENT, *event)
            else:
                appended = await connection.fetchrow(paper_rows.APPEND_EVENT_WITH_PAPER, *event, *paper.values())
        except asyncpg.UniqueViolationError as twice:
            if twice.constraint_name != "source_event_is_recorded_once":
                raise
            # The answer that was kept for this key has expired; the event of then is in the log for good.
            raise KeyReused("This Idempotency-Key was used more than thirty days ago.") from None
        except asyncpg.IntegrityConstraintViolationError as refused:
            if refused.constraint_name != PRESENT_EPOCH:
                raise
            raise Unavailable(reason="an epoch began during the transaction; nothing was written") from None
        # The relay's span of the delivery names the same event.
        tracing.annotate(**{"hoso24.event": f"{appended['xid']}-{appended['seq']}"})


async def operate(
    connection: Any, seals: SealKeys, code: DossierCode, change: Reissue | Removal | OwnerChange, *, actor: str
) -> State:
    """Change a dossier by an operator's command, in the caller's transaction; the state after it.

    Raises UnknownDossier, KeysUsedUp, ReasonRequired.
    """
    start = await connection.fetchrow(MOMENT)
    moment = _Moment(start["now"], start["epoch"])
    state = state_of(await _lock(connection, code))
    by = _By(OPERATOR, None, actor)
    return (await _Scribe(seals, 0).change(connection, moment, state, change, by, Catalogue())).state


class Program:
    """Writes to the log as a program of ours, in the caller's transaction, at the caller's `now` and epoch.

    `source` names it in the log. Raises what `apply` raises, and what the connection raises.
    """

    def __init__(
        self, connection: Any, seals: SealKeys, catalogue: Catalogue, *, source: str, now: datetime, epoch: int
    ) -> None:
        self._connection = connection
        self._scribe = _Scribe(seals, 0)
        self._catalogue = catalogue
        self._source = source
        self._moment = _Moment(now, epoch)

    async def state(self, code: DossierCode) -> State:
        """The dossier's state; its row stays locked. Raises UnknownDossier, also for a removed one."""
        return state_of(await _lock(self._connection, code))

    async def receive(self, reception: Reception, applicant: Applicant) -> State:
        """A dossier comes in. The caller has seen to it that its code is not taken."""
        by = _By(self._source, None, self._source)
        said = Said(person=_person(applicant, None), receipt_wanted=False)
        entered = await _enter(self._connection, self._scribe, self._moment, reception, said, by, self._catalogue)
        return entered.state

    async def change(self, before: State, change: Change, *, event_id: str | None = None) -> State:
        """Change a dossier whose state is locked. `event_id`: the program's own name of this event, for good."""
        by = _By(self._source, event_id, self._source)
        return (await self._scribe.change(self._connection, self._moment, before, change, by, self._catalogue)).state


class Ledger:
    """Records receptions, moves, official numbers, corrections, new lookup keys and removals.

    `scheme` numbers new dossiers, `seals` seals their events. `deadline` is the timeout of a request and `longest` that
    of its transaction, both in seconds. `backdating`: how many working days back a step may be dated. `stamp_key`: the
    key that stamps papers, at every paper anew; it raises Unavailable, and then nothing is recorded that needs a paper.
    Without it no papers are issued.
    """

    def __init__(
        self,
        postgres: Postgres,
        *,
        scheme: Scheme,
        seals: SealKeys,
        deadline: float,
        longest: float = 10.0,
        backdating: int = 1,
        stamp_key: Callable[[], StampKey] | None = None,
    ) -> None:
        self._postgres = postgres
        self._scheme = scheme
        self._scribe = _Scribe(seals, backdating, stamp_key)
        self._deadline = deadline
        self._longest = longest
        self._unbroken = Unbroken()

    async def receive(self, request: KeyedRequest, submission: Submission, catalogue: Catalogue) -> dict[str, Any]:
        """Receive a dossier: give it a code, a due date if it is accepted at once, and its first event. Safe to repeat.

        The answer has code, version, status, agency, service, submitted_at, received_at, due_at, issued_at and
        key_serial; received_at and due_at are None for an online application. `papers` has the form, year, number and
        version of each paper that it issued; it is left out where there is none. A repeat with the same key gets the
        first answer. With `result` the dossier is completed and returned in the same transaction. Raises UnknownAgency,
        AgencyEnded, AgencyNotBegun, UnknownService, ServiceEnded, ServiceNotBegun, OutOfScope, BadDate,
        BackdatedTooFar, CannotNumber, InvalidContent, TasksLive, KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        agency = catalogue.agencies.get(submission.agency)
        service = catalogue.services.get(submission.service)
        if agency is None:
            raise UnknownAgency(f"There is no agency {submission.agency}.")
        request.client.require("receive", submission.agency, catalogue)
        if submission.result is not None:
            request.client.require_action("move")
        require_open_for_clients(submission.agency, catalogue)
        if service is None:
            raise UnknownService(f"There is no service {submission.service}.")
        cases = sorted({limit.service_case for limit in service.times})
        if submission.service_case not in cases:
            raise UnknownService(f"Service {service.code} has no such case; its cases are: {', '.join(cases)}.")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            return await self._receive(connection, moment, request, submission, catalogue)

        return await self._settle(self._once(request, work))

    async def move(
        self, request: KeyedRequest, code: DossierCode, transition: Transition, catalogue: Catalogue
    ) -> dict[str, Any]:
        """Move a dossier to another status or unit. Safe to repeat. The answer has code, version, status and due_at,
        and `papers` as in a reception.

        A move that accepts the dossier answers with `accepted`: agency, service, submitted_at, received_at, due_at,
        issued_at and key_serial, of which a receipt is made. Raises UnknownDossier, also for a dossier that this client
        may not move; VersionMismatch, MoveNotAllowed, ReasonRequired, TargetNotAllowed, UnknownAgency, BadDate,
        DatesOutOfOrder, BackdatedTooFar, InvalidContent, OutOfScope, KeyReused, StillRunning, OutcomeUnknown,
        Unavailable.
        """
        status = transition.status
        request.client.require_action("move")
        move = Move(
            to=status,
            at=transition.at,
            agency=transition.agency,
            department=transition.department,
            note=transition.note,
            items=tuple(transition.items),
            outcome=transition.outcome,
            override=transition.override,
        )

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            before, row = await self._locked(connection, request, code, status, transition.expected_version, catalogue)
            by = _By.client(request, transition.officer)
            said = Said(person=row, officer=transition.officer, on_receipt=transition.on_receipt)
            applied = await self._scribe.change(connection, moment, before, move, by, catalogue, said=said)
            after = applied.state
            if not catalogue.is_sandbox(after.origin):
                metrics.MOVES.labels(status.slug).inc()
            answer = {
                "code": code.text,
                "version": after.version,
                "status": status.slug,
                "due_at": local(after.due_at),
            }
            if applied.warnings:
                answer["warnings"] = list(applied.warnings)
            if before.received_at is None and after.received_at is not None:
                answer["accepted"] = _accepted(after, moment)
            return answer | _papers(applied)

        return await self._settle(self._once(request, work))

    async def bind_number(
        self, request: KeyedRequest, code: DossierCode, bound: OfficialNumber, catalogue: Catalogue
    ) -> dict[str, Any]:
        """Bind an official number to a dossier. The answer has code, version and official_number. Safe to repeat.

        The dossier's code keeps working. Binding the number it already has changes nothing. Raises UnknownDossier, also
        for a dossier that this client may not change; VersionMismatch, NumberTaken, OutOfScope, InvalidContent,
        KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        number = _official(bound.number, "number")
        request.client.require_action("bind")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            before, _ = await self._locked(connection, request, code, "number_bound", bound.expected_version, catalogue)
            elsewhere = number != before.official_number and await connection.fetchval(IS_TAKEN, number)
            binding = Binding(number=number, elsewhere=elsewhere)
            by = _By.client(request, None)
            after = (await self._scribe.change(connection, moment, before, binding, by, catalogue)).state
            return {"code": code.text, "version": after.version, "official_number": number}

        return await self._settle(self._once(request, work))

    async def correct(
        self, request: KeyedRequest, code: DossierCode, asked: CorrectionRequest, catalogue: Catalogue
    ) -> dict[str, Any]:
        """Correct what was written wrongly; the log keeps both, of the applicant the names of the fields only.

        The answer has code, version, status, `corrected`, the names of the fields, and `papers` as in a reception: a
        dossier that has a receipt gets another one while it is worked on. Safe to repeat. Raises
        UnknownDossier, also for a dossier that this client may not correct; VersionMismatch, ReasonRequired,
        UnknownAgency, UnknownService, BadDate, DatesOutOfOrder, NumberTaken, InvalidContent, OutOfScope, KeyReused,
        StillRunning, OutcomeUnknown, Unavailable.
        """
        request.client.require_action("correct")
        fields: dict[str, Any] = {
            name: value
            for name in ("agency", "service", "service_case", "channel", "submitted_at")
            if (value := getattr(asked, name)) is not None
        }
        if asked.official_number is not None:
            fields["official_number"] = _official(asked.official_number, "official_number")
        said = {f"applicant_{name}": value for name, value in msgspec.structs.asdict(asked.applicant).items()}
        said["subject"] = asked.subject
        person = {name: _composed(value) for name, value in said.items() if value is not msgspec.UNSET}

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            before, row = await self._locked(connection, request, code, "corrected", asked.expected_version, catalogue)
            new_person = {name: value for name, value in person.items() if row[name] != value}
            number = fields.get("official_number")
            correction = Correction(
                reason=asked.reason,
                fields=fields,
                applicant=tuple(sorted(name.removeprefix("applicant_") for name in new_person)),
                elsewhere=number not in (None, before.official_number) and await connection.fetchval(IS_TAKEN, number),
            )
            whole = {name: new_person.get(name, row[name]) for name in PERSON_COLUMNS} if new_person else None
            by = _By.client(request, asked.officer)
            receipt = (
                await connection.fetchrow(paper_rows.NEWEST_RECEIPT, code.text) if self._scribe.stamp_key else None
            )
            said = Said(
                person=whole or row, officer=asked.officer, replaces=None if receipt is None else Replaced(*receipt)
            )
            applied = await self._scribe.change(
                connection, moment, before, correction, by, catalogue, person=whole, said=said
            )
            after = applied.state
            if whole is not None:
                await connection.execute(CORRECT_APPLICANT, code.text, *whole.values())
                await applicant_rows.renew(connection, code.text, after.origin, after.submitted_at, whole)
            told = [name for name, value in fields.items() if getattr(before, name) != value]
            return {
                "code": code.text,
                "version": after.version,
                "status": after.status.slug,
                "corrected": sorted([*told, *correction.applicant]),
                **_papers(applied),
            }

        return await self._settle(self._once(request, work))

    async def key(
        self, request: KeyedRequest, code: DossierCode, asked: KeyRequest, catalogue: Catalogue
    ) -> dict[str, Any]:
        """The serial of the dossier's lookup key, for who has none; a new one if `reissue` says so. Safe to repeat.

        The answer has code, version and key_serial. Raises UnknownDossier, also for a dossier whose key this client may
        not have; VersionMismatch, KeysUsedUp, OutOfScope, KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        request.client.require_action("correct")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            state, _ = await self._locked(connection, request, code, "key_reissued", asked.expected_version, catalogue)
            if asked.reissue:
                by = _By.client(request, asked.officer)
                reissue = Reissue(reason=asked.reason)
                state = (await self._scribe.change(connection, moment, state, reissue, by, catalogue)).state
            return {"code": code.text, "version": state.version, "key_serial": state.key_serial}

        answer = await self._settle(self._once(request, work))
        # With its key whoever has it reads the whole dossier.
        await note_read(self._postgres, asked.officer or request.client.reader, request.client.id, code.text, "key")
        return answer

    async def one_stop(
        self,
        request: KeyedRequest,
        code: DossierCode,
        change: OneStop,
        *,
        officer: str | None,
        expected_version: int | None,
        catalogue: Catalogue,
    ) -> dict[str, Any]:
        """Put the due date off, change the lead, give, end or ask about a task, or issue a paper. Safe to repeat.

        The lead's side may do it, the receiving agency's may put the due date off and issue a paper too, and the side
        of a task's agency ends it or asks about it. The answer has code, version, status, agency, due_at, tasks and
        warnings, and `papers` as in a reception. Raises UnknownDossier, also for a dossier of which this client may not
        do this; VersionMismatch, NoPapers, OutOfScope, KeyReused, StillRunning, OutcomeUnknown, Unavailable, and what
        intake/rules/one_stop.py raises.
        """
        request.client.require_action("correct" if isinstance(change, Lead) else "move")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            kind, of_task = _ABOUT[type(change)], getattr(change, "number", None)
            whose = None if isinstance(change, EndTask) and change.end == "cancelled" else of_task
            before, row = await self._locked(connection, request, code, kind, expected_version, catalogue, task=whose)
            by = _By.client(request, officer)
            said = Said(person=row, officer=officer)
            applied = await self._scribe.change(connection, moment, before, change, by, catalogue, said=said)
            after = applied.state
            return {
                "code": code.text,
                "version": after.version,
                "status": after.status.slug,
                "agency": after.agency,
                "due_at": local(after.due_at),
                "tasks": [task_told(task) for task in after.tasks],
                "warnings": list(applied.warnings),
                **_papers(applied),
            }

        return await self._settle(self._once(request, work))

    async def agree(
        self, client: Client, code: DossierCode, channel: Channel, address: str | None, catalogue: Catalogue
    ) -> None:
        """Write down that the applicant agreed to be told at this address, or with None that he no longer does.

        The sides that may correct the dossier may. No event tells of it; safe to repeat. Raises UnknownDossier, also
        where this client may not; OutOfScope, OutcomeUnknown, Unavailable.
        """

        async def work() -> None:
            in_time = self._postgres.connection(self._longest, operation=TRANSACTION)
            async with in_time as connection, connection.transaction():
                by = KeyedRequest(client, "", b"")
                await self._locked(connection, by, code, "corrected", None, catalogue)
                if address is None:
                    await consents.withdraw(connection, code.text, channel)
                else:
                    await consents.give(connection, code.text, {channel: address}, client.reader)

        await self._settle(work())

    async def tasks(
        self, agency: str, *, before: datetime | None, after: tuple[str, str, int], limit: int
    ) -> list[Any]:
        """The live tasks of one agency by due date, from behind `after`; those due before a time only, if one is given.

        Raises Unavailable.
        """
        rows: list[Any] = await self._postgres.fetch(LIVE_TASKS, agency, before, *after, limit)
        return rows

    async def reissue_key(self, code: DossierCode, *, actor: str, reason: str | None = None) -> int:
        """A new lookup key by an operator's command; its serial. Raises UnknownDossier, KeysUsedUp, Unavailable."""
        after = await self._settle(self._operate(code, Reissue(reason=reason), actor))
        return after.key_serial

    async def remove(self, code: DossierCode, *, actor: str, reason: str) -> int:
        """Empty the dossier by an operator's command; its version after that. What its events say is erased apart.

        Raises UnknownDossier, ReasonRequired, Unavailable.
        """
        after = await self._settle(self._operate(code, Removal(reason=reason), actor))
        return after.version

    async def officers_view(self, client: Client, code: DossierCode, catalogue: Catalogue) -> Any:
        """The whole row with the applicant and the tasks, and a row in the log of reads before that.

        Raises UnknownDossier, also where this client may not read; Unavailable, also when the log cannot be written.
        """
        row = await self._readable(client, code, catalogue)
        await note_read(self._postgres, client.reader, client.id, code.text, "dossier")
        return row

    async def history(self, client: Client, code: DossierCode, catalogue: Catalogue) -> list[dict[str, Any]]:
        """The dossier's events as history.told has them, and a row in the log of reads before that.

        Raises as officers_view.
        """
        await self._readable(client, code, catalogue)
        await note_read(self._postgres, client.reader, client.id, code.text, "events")
        return [history.told(event) for event in await self._postgres.fetch(history.HISTORY, code.text)]

    async def papers(self, client: Client, code: DossierCode, catalogue: Catalogue) -> list[Any]:
        """The dossier's papers as paper_rows.PAPERS has them, and a row in the log of reads before that.

        Raises as officers_view.
        """
        await self._readable(client, code, catalogue)
        await note_read(self._postgres, client.reader, client.id, code.text, "papers")
        rows: list[Any] = await self._postgres.fetch(paper_rows.PAPERS, code.text)
        return rows

    async def print_paper(
        self, client: Client, code: DossierCode, version: int, catalogue: Catalogue, page: MakePage
    ) -> bytes:
        """What `page` makes of the paper that was issued with that version: its row of paper_rows.PAPERS, the number of
        prints before, and the dossier's key serial, None for a client that may not be told the key: neither may it
        correct, nor did it submit the dossier and was told the key then.

        Before that a row in the log of reads, after it one in the table of prints. Raises UnknownPaper, PaperErased,
        what `page` raises, and as officers_view.
        """
        dossier = await self._readable(client, code, catalogue)
        await note_read(self._postgres, client.reader, client.id, code.text, "paper")
        rows = await self._postgres.fetch(paper_rows.PAPERS, code.text)
        row = next((each for each in rows if each["version"] == version), None)
        if row is None:
            raise UnknownPaper
        if row["content"] is None:
            raise PaperErased
        paper = row["agency"], row["form"], row["year"], row["number"]
        ((printed,),) = await self._postgres.fetch(paper_rows.PRINTED, *paper)
        submitted_here = client.submitter is not None and dossier["submitted_by"] == client.submitter
        may_have_the_key = "correct" in client.actions or submitted_here
        made = await page(row, printed, dossier["key_serial"] if may_have_the_key else None)
        await self._postgres.fetch(paper_rows.NOTE_PRINT, *paper, client.reader, "again" if printed else "first")
        return made

    async def _readable(self, client: Client, code: DossierCode, catalogue: Catalogue) -> Any:
        """The row of OFFICERS_VIEW, for a client that has to do with it. Raises UnknownDossier, Unavailable."""
        rows = await self._postgres.fetch(OFFICERS_VIEW, code.text)
        if not rows or rows[0]["removed"]:
            raise UnknownDossier
        row = rows[0]
        today = code_day(datetime.now(UTC))
        parties = {row["agency"], row["origin"], *(task.agency for task in tasks_in(row["tasks"]))}
        submitted_here = client.submitter is not None and row["submitted_by"] == client.submitter
        if not may_read(catalogue, client.agency, today, parties, submitted_here):
            raise UnknownDossier
        return row

    async def close(self) -> None:
        """Wait for the open transactions; each ends within `longest`."""
        await self._unbroken.close()

    # -- what every change has in common -----------------------------------------------------------------

    async def _settle(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._unbroken.settle(work, self._deadline)

    async def _once(self, request: KeyedRequest, work: Any) -> dict[str, Any]:
        """Run `work` in a transaction; if this key has an answer already, return that answer instead.

        While the first request runs, a repeat gets StillRunning at once, so that fifty repeats of one slow request do
        not hold fifty connections. A repeat increments a counter: it has something to commit, and so waits for the
        same standby as the first request.
        """
        client, key = request.client.id, request.key
        in_time = self._postgres.connection(self._longest, operation=TRANSACTION)
        async with in_time as connection, connection.transaction():
            start = await connection.fetchrow(TRY_LOCK, client, key)
            if not start["locked"]:
                raise StillRunning(retry_after=1)
            before = await connection.fetchrow(FIND_ANSWER, client, key)
            if before is not None:
                if before["fingerprint"] != request.fingerprint:
                    raise KeyReused
                metrics.REPLAYS.inc()
                answer: dict[str, Any] = msgspec.json.decode(before["answer"])
                return answer
            answer = await work(connection, _Moment(start["now"], start["epoch"]))
            encoded = msgspec.json.encode(answer)
            await connection.execute(KEEP_ANSWER, client, key, request.fingerprint, encoded.decode())
        same_types_as_a_repeat: dict[str, Any] = msgspec.json.decode(encoded)
        return same_types_as_a_repeat

    async def _operate(self, code: DossierCode, change: Reissue | Removal, actor: str) -> State:
        in_time = self._postgres.connection(self._longest, operation=TRANSACTION)
        async with in_time as connection, connection.transaction():
            return await operate(connection, self._scribe.seals, code, change, actor=actor)

    async def _locked(
        self,
        connection: Any,
        request: KeyedRequest,
        code: DossierCode,
        what: Status | str,
        expected_version: int | None,
        catalogue: Catalogue,
        *,
        task: int | None = None,
    ) -> tuple[State, Any]:
        """The dossier's state and row, locked. `task`: what is to be done is this task's agency's, not the lead's.

        Raises UnknownDossier, OutOfScope, VersionMismatch.
        """
        row = await _lock(connection, code)
        state = state_of(row)
        today = code_day(datetime.now(UTC))
        there = task is not None and 1 <= task <= len(state.tasks)
        side = state.tasks[task - 1].agency if task is not None and there else state.agency
        if not may_change(catalogue, request.client.agency, today, side, state.origin, what):
            raise UnknownDossier
        require_not_moving_by_itself(state, catalogue)
        if expected_version is not None and state.version != expected_version:
            raise VersionMismatch(
                f"The dossier is at version {state.version}, the request expects version {expected_version}.",
                version=state.version,
                current=state.status.slug,
            )
        return state, row

    # -- receptions --------------------------------------------------------------------------------------

    async def _receive(
        self,
        connection: Any,
        moment: _Moment,
        request: KeyedRequest,
        submission: Submission,
        catalogue: Catalogue,
    ) -> dict[str, Any]:
        sandbox = catalogue.is_sandbox(submission.agency)
        code = await self._next_code(connection, submission.agency, code_day(moment.now), sandbox=sandbox)
        reception = Reception(
            code=code.text,
            agency=submission.agency,
            service=submission.service,
            service_case=submission.service_case,
            channel=submission.channel,
            status=submission.first_status,
            submitted_at=submission.submitted_at,
            submitted_by=request.client.submitter,
            department=submission.department,
        )
        by = _By.client(request, submission.officer)
        said = Said(
            person=_person(submission.applicant, submission.subject),
            officer=submission.officer,
            on_receipt=submission.on_receipt,
            receipt_wanted=submission.result is None or submission.receipt,
        )
        entered = await _enter(connection, self._scribe, moment, reception, said, by, catalogue)
        state = entered.state
        if submission.notify is not None:
            await consents.give(connection, state.code, submission.notify.addresses, request.client.reader)
        if submission.result is not None:
            state = await self._hand_over(connection, moment, state, submission, by, catalogue)
        if not catalogue.is_sandbox(state.origin):
            metrics.DOSSIERS_RECEIVED.labels(submission.channel).inc()
        told = {"code": state.code, "version": state.version, "status": state.status.slug}
        return told | _accepted(state, moment) | _papers(entered)

    async def _hand_over(
        self, connection: Any, moment: _Moment, state: State, submission: Submission, by: _By, catalogue: Catalogue
    ) -> State:
        """Complete and return what has just come in. Raises InvalidContent, TasksLive."""
        service, received_at = catalogue.services[state.service], state.received_at
        if received_at is None:
            raise InvalidContent("result: only what is accepted has one; send it with status received")
        limit = service.time_limit(state.service_case, state.channel, received_at.astimezone(VIETNAM).date())
        if limit is None or not limit.at_once:
            raise InvalidContent(f"result: the time limit of {service.code} is not `at_once`")
        rest = _By(by.source, None, by.actor)  # an event of a source is recorded once, and this is one request
        for to in (Status.COMPLETED, Status.RETURNED):
            move = Move(to=to, at=state.last_at, department=submission.department)
            state = (await self._scribe.change(connection, moment, state, move, rest, catalogue)).state
            if not catalogue.is_sandbox(state.origin):
                metrics.MOVES.labels(to.slug).inc()
        return state

    async def _next_code(self, connection: Any, agency: str, today: date, *, sandbox: bool) -> DossierCode:
        # Taken late in the transaction: until it commits, other receptions of this agency wait.
        # In the sandbox they are of scheme B: other schemes do not fit its agencies.
        scheme = Scheme.B if sandbox else self._scheme
        day = today.replace(month=1, day=1) if scheme is Scheme.D else today
        while True:
            sequence = await connection.fetchval(NEXT_IN_SEQUENCE, agency, day)
            try:
                code = codes.issue(scheme, agency, today, sequence)
            except MalformedCode as misfit:
                raise CannotNumber(misfit.detail) from None
            # A number may be bound already that no dossier here was received under.
            if not await connection.fetchval(IS_TAKEN, code.text):
                return code


async def _enter(
    connection: Any,
    scribe: _Scribe,
    moment: _Moment,
    reception: Reception,
    said: Said,
    by: _By,
    catalogue: Catalogue,
) -> Applied:
    """Insert the row of a dossier that comes in, and append its first event."""
    given = scribe.given(moment, catalogue)
    applied = apply(None, reception, given)
    state = applied.state
    for each in (catalogue.agencies[state.agency], catalogue.services[state.service]):
        _must_be_valid(each, code_day(state.submitted_at), catalogue)
    row = NewDossier(
        code=state.code,
        version=state.version,
        status=state.status,
        agency=state.agency,
        origin=state.origin,
        submitted_by=state.submitted_by,
        service=state.service,
        service_case=state.service_case,
        channel=state.channel,
        submitted_at=state.submitted_at,
        received_at=state.received_at,
        due_at=state.due_at,
        calendar=state.calendar,
        timeline=timeline(public_step(state.last_at, state.status, state.agency, reception.department)),
        **said.person,
    )
    dossier = row.row()
    await connection.execute(INSERT_WITH_APPLICANT, *dossier, *search_row(dossier))
    applied, paper = await scribe.issue(connection, None, reception, applied, said, given, by)
    await scribe.append(connection, moment, applied, by, said.person, paper)
    await task_rows.write(connection, [((), state)])
    return applied


def _person(applicant: Applicant, subject: str | None) -> dict[str, Any]:
    """PERSON_COLUMNS of a new dossier."""
    return {
        "applicant_kind": applicant.kind,
        "applicant_name": nfc(applicant.name),
        "applicant_id": applicant.id,
        "applicant_phone": applicant.phone,
        "applicant_email": applicant.email,
        "applicant_address": nfc(applicant.address),
        "subject": nfc(subject),
    }


async def _lock(connection: Any, code: DossierCode) -> Any:
    """The dossier's row, locked, with what LOCK_DOSSIER reads of its log. Raises UnknownDossier."""
    row = await connection.fetchrow(LOCK_DOSSIER, code.text)
    if row is not None and row["newest"] != row["version"]:
        row = await connection.fetchrow(LOCK_DOSSIER, code.text)
    if row is None or row["removed"]:
        raise UnknownDossier
    return row


def require_not_moving_by_itself(state: State, catalogue: Catalogue) -> None:
    """Raise OutOfScope for a dossier of the sandbox's own, which no client changes."""
    if moves_by_itself(catalogue, state.origin, state.submitted_by):
        raise OutOfScope("This dossier of the sandbox moves by itself; receive one of your own and move that.")


def require_open_for_clients(agency: str, catalogue: Catalogue) -> None:
    """Raise OutOfScope for an agency whose dossiers the sandbox makes itself: a code taken there is one it lacks."""
    if sandboxes.is_scripted(catalogue, agency):
        own = f"{sandboxes.root(catalogue)}{sandboxes.OWN}"
        raise OutOfScope(f"The dossiers of {agency} are the sandbox's own; send yours to {own}.")


def state_of(row: Any) -> State:
    """The state of a dossier in a row of LOCK_DOSSIER."""
    values = {name: row[name] for name in State.__struct_fields__ if name not in _READ_OTHERWISE}
    return State(
        **values,
        status=Status(row["status"]),
        last_at=row["last_at"] or row["submitted_at"],
        pauses=tuple(msgspec.json.decode(row["pauses"], type=list[Pause])),
        tasks=tasks_in(row["tasks"]),
    )


_READ_OTHERWISE = {"status", "last_at", "pauses", "tasks"}


def record_of(
    applied: Applied, *, epoch: int, source: str, source_event_id: str | None, actor: str, person: bytes | None
) -> EventRecord:
    """The event of an applied change as it is sealed. `person`: the digest of a new applicant."""
    event = dict(applied.event or {})
    for name in ("pauses", "detail"):
        if event.get(name) is not None:
            event[name] = jsonb_text(event[name])
    return EventRecord(**event, epoch=epoch, source=source, source_event_id=source_event_id, actor=actor, person=person)


def task_told(task: Task) -> dict[str, Any]:
    """A task as answers have it, times in Vietnam's."""
    told = msgspec.structs.asdict(task)
    return told | {name: local(told[name]) for name in ("due_at", "opened_at", "ended_at")}


def _accepted(state: State, moment: _Moment) -> dict[str, Any]:
    """What a receipt, or the confirmation of an online application, says besides code and link."""
    return {
        "agency": state.origin,
        "service": state.service,
        "submitted_at": local(state.submitted_at),
        "received_at": local(state.received_at),
        "due_at": local(state.due_at),
        "issued_at": local(moment.now),
        "key_serial": state.key_serial,
    }


def _papers(applied: Applied) -> dict[str, Any]:
    """What an answer says of the paper that was issued."""
    return {} if applied.paper is None else {"papers": [applied.paper]}


def _official(text: str, field: str) -> str:
    """An official number in its canonical spelling. Raises MalformedCode, InvalidContent."""
    number = codes.parse(text)
    if number.scheme is not Scheme.D:
        raise InvalidContent(f"{field}: an official number is written sequence/year/agency, as 01234/2026/99901")
    return number.text


def _composed(value: Any) -> Any:
    return nfc(value) if isinstance(value, str) else value


def _must_be_valid(each: Agency | Service, day: date, catalogue: Catalogue) -> None:
    """Raise AgencyEnded, AgencyNotBegun, ServiceEnded or ServiceNotBegun unless it is in force that day in Vietnam."""
    if in_force(each, day):
        return
    if day < each.valid_from:
        not_begun = AgencyNotBegun if isinstance(each, Agency) else ServiceNotBegun
        raise not_begun(f"{each.code} is in force from {each.valid_from}, not on {day}.")
    if isinstance(each, Service):
        raise ServiceEnded(f"{each.code} was in force until {each.valid_to}, not on {day}.")
    successor = catalogue.now_answering(each.code, day)
    step = f" Its successor is {successor.code}, {successor.name_vi}." if successor else ""
    ended = f"{each.code} was in force until {each.valid_to}, not on {day}.{step}"
    raise AgencyEnded(ended, successor=successor.code if successor else None)
