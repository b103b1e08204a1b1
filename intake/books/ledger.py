"""Changes to dossiers: one transaction writes the dossier's row, its public timeline and the event log.

A COMMIT is never cancelled. At the deadline the client gets OutcomeUnknown, and the transaction goes on in a task of
its own. A repeat with the same idempotency key reports the outcome. (A cancelled commit can be visible on the primary
while no standby has it; acknowledging it then would lose the change at the next failover.)
"""

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import asyncpg
import msgspec

from intake import metrics
from intake.books.dossier import INSERT_DOSSIER, NewDossier, public_step, timeline
from intake.books.event import APPEND_EVENT, GENESIS, Event
from intake.clients import Client
from intake.refusals import (
    AgencyEnded,
    AgencyNotBegun,
    CannotNumber,
    KeyReused,
    MoveNotAllowed,
    NumberTaken,
    OutcomeUnknown,
    ServiceEnded,
    ServiceNotBegun,
    StillRunning,
    TimelineFull,
    UnknownAgency,
    UnknownDossier,
    UnknownService,
    VersionMismatch,
)
from intake.rules.due_dates import dates_after, due_date
from intake.rules.requests import (
    TOLERANCE,
    InvalidContent,
    OfficialNumber,
    Submission,
    Transition,
    action_needed,
    fingerprint,
    nfc,
    plausible,
)
from intake.rules.workdays import calendar_of
from lookup import code as codes
from lookup.catalogue import Agency, Catalogue, Service, in_force
from lookup.clock import VIETNAM
from lookup.code import DossierCode, MalformedCode, Scheme
from lookup.status import Status
from ops.errors import Refusal
from ops.observe import tracing
from ops.stores.postgres import TRANSACTION, Postgres

log = logging.getLogger(__name__)
T = TypeVar("T")

TRY_LOCK = """
SELECT pg_try_advisory_xact_lock(hashtextextended($1 || E'\\n' || $2, 24)) AS locked,
       now()                                                             AS now,
       (SELECT max(number) FROM epoch)                                   AS epoch
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

LOCK_DOSSIER = """
SELECT code, version, status, service, service_case, agency, channel, submitted_at, received_at, due_at,
       finished_at, returned_at, official_number, paused_at, removed
  FROM dossier
 WHERE code = $1
   FOR UPDATE
"""

MOVE = """
UPDATE dossier
   SET version = version + 1, status = $3, agency = $4, received_at = $5, due_at = $6, finished_at = $7,
       returned_at = $8, paused_at = $9, action_needed = $10, timeline = timeline || $11::jsonb
 WHERE code = $1 AND version = $2
"""

BIND_NUMBER = """
UPDATE dossier
   SET version = version + 1, official_number = $3
 WHERE code = $1 AND version = $2
"""

ADD_NUMBER = """
INSERT INTO dossier_number (number, code, version)
VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING number
"""

LAST_HASH = """
SELECT hash
  FROM event
 WHERE code = $1 AND version = $2
"""

OFFICERS_VIEW = """
SELECT code, version, status, service, service_case, agency, channel, submitted_at, received_at, due_at,
       finished_at, returned_at, official_number, action_needed, timeline, subject, removed,
       applicant_kind, applicant_name, applicant_id, applicant_phone, applicant_email, applicant_address
  FROM dossier
 WHERE code = $1
"""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A client's request with its idempotency key, and the fingerprint that a repeat must equal."""

    client: Client
    key: str
    fingerprint: bytes

    @classmethod
    def of(
        cls, client: Client, key: str | None, path: str, content: Submission | Transition | OfficialNumber
    ) -> "KeyedRequest":
        """The request with this key. Without one it gets a random key, before the first attempt."""
        return cls(client, key or str(uuid.uuid4()), fingerprint(path, content))


@dataclass(frozen=True, slots=True)
class _Moment:
    """The transaction's time by the database's clock, and the epoch."""

    now: datetime
    epoch: int


class Ledger:
    """Records receptions, moves and official numbers.

    `scheme` numbers new dossiers. `deadline` is the timeout of a request and `longest` that of its transaction, both in
    seconds.
    """

    def __init__(self, postgres: Postgres, *, scheme: Scheme, deadline: float, longest: float = 10.0) -> None:
        self._postgres = postgres
        self._scheme = scheme
        self._deadline = deadline
        self._longest = longest
        self._running: set[asyncio.Task[Any]] = set()

    async def receive(self, request: KeyedRequest, submission: Submission, catalogue: Catalogue) -> dict[str, Any]:
        """Receive a dossier: give it a code, a due date if it is accepted at once, and its first event. Safe to repeat.

        The answer has code, version, status, submitted_at, received_at, due_at, issued_at and key_serial; received_at
        and due_at are None for an online application. A repeat with the same key gets the first answer. Raises
        UnknownAgency, AgencyEnded, AgencyNotBegun, UnknownService, ServiceEnded, ServiceNotBegun, OutOfScope,
        CannotNumber, KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        agency = catalogue.agencies.get(submission.agency)
        service = catalogue.services.get(submission.service)
        if agency is None:
            raise UnknownAgency(f"There is no agency {submission.agency}.")
        request.client.require("receive", submission.agency, catalogue)
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
        """Move a dossier to another status or unit. Safe to repeat. The answer has code, version, status and due_at.

        Raises UnknownDossier, OutOfScope, VersionMismatch, MoveNotAllowed, UnknownAgency, AgencyEnded,
        AgencyNotBegun, InvalidContent, TimelineFull, KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        if transition.agency is not None and transition.agency not in catalogue.agencies:
            raise UnknownAgency(f"There is no agency {transition.agency}.")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            return await self._move(connection, moment, request, code, transition, catalogue)

        return await self._settle(self._once(request, work))

    async def bind_number(
        self, request: KeyedRequest, code: DossierCode, bound: OfficialNumber, catalogue: Catalogue
    ) -> dict[str, Any]:
        """Bind an official number to a dossier. The answer has code, version and official_number. Safe to repeat.

        The dossier's code keeps working. Binding the number it already has changes nothing. Raises UnknownDossier,
        OutOfScope, VersionMismatch, NumberTaken, KeyReused, StillRunning, OutcomeUnknown, Unavailable.
        """
        number = codes.parse(bound.number)
        if number.scheme is not Scheme.D:
            raise InvalidContent("number: an official number is written sequence/year/agency, as 01234/2026/99901")

        async def work(connection: Any, moment: _Moment) -> dict[str, Any]:
            return await self._bind(connection, moment, request, code, number, bound.expected_version, catalogue)

        return await self._settle(self._once(request, work))

    async def officers_view(self, code: DossierCode) -> Any:
        """The whole row with the applicant, for a client whose scope the caller checks.

        Raises UnknownDossier, Unavailable.
        """
        rows = await self._postgres.fetch(OFFICERS_VIEW, code.text)
        if not rows or rows[0]["removed"]:
            raise UnknownDossier
        return rows[0]

    async def close(self) -> None:
        """Wait for the open transactions; each ends within `longest`."""
        if self._running:
            await asyncio.wait(self._running)

    # -- what every change has in common -----------------------------------------------------------------

    async def _settle(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises OutcomeUnknown at the deadline, while `work` goes on."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=self._deadline)
        if not done:
            metrics.OUTCOMES_UNKNOWN.inc()
            raise OutcomeUnknown
        try:
            return task.result()
        finally:
            del task, done  # they hold the refusal whose traceback holds this frame

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), Refusal):
            log.error("A change failed", exc_info=task.exception())

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

    # -- the changes -------------------------------------------------------------------------------------

    async def _receive(
        self,
        connection: Any,
        moment: _Moment,
        request: KeyedRequest,
        submission: Submission,
        catalogue: Catalogue,
    ) -> dict[str, Any]:
        status = submission.first_status
        submitted_at = plausible(submission.submitted_at, moment.now, "submitted_at")
        agency, service = catalogue.agencies[submission.agency], catalogue.services[submission.service]
        _must_be_valid(agency, submitted_at, catalogue)
        _must_be_valid(service, submitted_at, catalogue)
        received_at = submitted_at if status is Status.RECEIVED else None
        calendar = calendar_of(catalogue, submission.agency)
        # Before acceptance nothing is promised (Decree 61/2018, art. 17); the move to it sets the date.
        due_at = received_at and due_date(service, submission.service_case, submission.channel, received_at, calendar)
        applicant = submission.applicant
        code = await self._next_code(connection, submission.agency, moment.now.astimezone(VIETNAM).date())
        row = NewDossier(
            code=code.text,
            version=1,
            status=status,
            service=submission.service,
            service_case=submission.service_case,
            agency=submission.agency,
            channel=submission.channel,
            submitted_at=submitted_at,
            received_at=received_at,
            due_at=due_at,
            timeline=timeline(public_step(submitted_at, status, submission.agency, submission.department)),
            calendar=calendar.name,
            applicant_kind=applicant.kind,
            applicant_name=nfc(applicant.name),
            applicant_id=applicant.id,
            applicant_phone=applicant.phone,
            applicant_email=applicant.email,
            applicant_address=nfc(applicant.address),
            subject=nfc(submission.subject),
        )
        await connection.execute(INSERT_DOSSIER, *row.row())
        await self._append(
            connection,
            moment.epoch,
            GENESIS,
            Event(
                code=code.text,
                version=1,
                kind="received",
                status=status,
                occurred_at=submitted_at,
                recorded_at=moment.now,
                agency=submission.agency,
                department=nfc(submission.department),
                actor=_actor(request.client, submission.officer),
                source=request.client.id,
                source_event_id=request.key,
            ),
        )
        metrics.DOSSIERS_RECEIVED.labels(submission.channel).inc()
        return {
            "code": code.text,
            "version": 1,
            "status": status.slug,
            "submitted_at": submitted_at.astimezone(VIETNAM),
            "received_at": received_at and received_at.astimezone(VIETNAM),
            "due_at": due_at,
            "issued_at": moment.now.astimezone(VIETNAM),
            "key_serial": 0,
        }

    async def _next_code(self, connection: Any, agency: str, today: date) -> DossierCode:
        # Taken late in the transaction: until it commits, other receptions of this agency wait.
        day = today.replace(month=1, day=1) if self._scheme is Scheme.D else today
        while True:
            sequence = await connection.fetchval(NEXT_IN_SEQUENCE, agency, day)
            try:
                code = codes.issue(self._scheme, agency, today, sequence)
            except MalformedCode as misfit:
                raise CannotNumber(misfit.detail) from None
            # An import may have stored codes of today.
            if not await connection.fetchval(IS_TAKEN, code.text):
                return code

    async def _move(
        self,
        connection: Any,
        moment: _Moment,
        request: KeyedRequest,
        code: DossierCode,
        transition: Transition,
        catalogue: Catalogue,
    ) -> dict[str, Any]:
        dossier = await self._locked(connection, request, code, "move", transition.expected_version, catalogue)
        before, after = Status(dossier["status"]), transition.status
        if not before.may_become(after):
            allowed = [status.slug for status in Status if before.may_become(status)]
            raise MoveNotAllowed(
                f"A dossier that is {before.slug} may become: {', '.join(allowed) or 'nothing, this status is final'}.",
                allowed=allowed,
                status=before.slug,
                version=dossier["version"],
            )
        at = _after_submission(plausible(transition.at, moment.now, "at"), dossier["submitted_at"])
        agency = transition.agency or dossier["agency"]
        if agency != dossier["agency"]:
            _must_be_valid(catalogue.agencies[agency], at, catalogue)
        calendar = calendar_of(catalogue, agency)
        times = dates_after(dossier, after, at, catalogue.services.get(dossier["service"]), calendar)
        try:
            await connection.execute(
                MOVE,
                code.text,
                dossier["version"],
                after.value,
                agency,
                times.received_at,
                times.due_at,
                times.finished_at,
                times.returned_at,
                times.paused_at,
                action_needed(after, transition.note),
                timeline(public_step(at, after, agency, transition.department)),
            )
        except asyncpg.CheckViolationError as broken:
            if broken.constraint_name != "timeline_fits_one_read":
                raise
            raise TimelineFull from None
        version = dossier["version"] + 1
        await self._append(
            connection,
            moment.epoch,
            await connection.fetchval(LAST_HASH, code.text, dossier["version"]),
            Event(
                code=code.text,
                version=version,
                kind="moved",
                status=after,
                occurred_at=at,
                recorded_at=moment.now,
                agency=agency,
                department=nfc(transition.department),
                actor=_actor(request.client, transition.officer),
                source=request.client.id,
                source_event_id=request.key,
                note=nfc(transition.note),
            ),
        )
        metrics.MOVES.labels(after.slug).inc()
        due_at = times.due_at
        return {
            "code": code.text,
            "version": version,
            "status": after.slug,
            "due_at": due_at and due_at.astimezone(VIETNAM),
        }

    async def _bind(
        self,
        connection: Any,
        moment: _Moment,
        request: KeyedRequest,
        code: DossierCode,
        number: DossierCode,
        expected_version: int | None,
        catalogue: Catalogue,
    ) -> dict[str, Any]:
        dossier = await self._locked(connection, request, code, "bind", expected_version, catalogue)
        version = dossier["version"]
        if dossier["official_number"] == number.text:
            return {"code": code.text, "version": version, "official_number": number.text}
        if dossier["official_number"] is not None:
            raise NumberTaken(f"This dossier has the official number {dossier['official_number']} already.")
        if await connection.fetchval(IS_TAKEN, number.text):
            raise NumberTaken(f"{number.text} belongs to another dossier, or is a dossier's code.")
        if await connection.fetchval(ADD_NUMBER, number.text, code.text, version + 1) is None:
            raise NumberTaken(f"{number.text} belongs to another dossier.")
        await connection.execute(BIND_NUMBER, code.text, version, number.text)
        await self._append(
            connection,
            moment.epoch,
            await connection.fetchval(LAST_HASH, code.text, version),
            Event(
                code=code.text,
                version=version + 1,
                kind="number_bound",
                status=Status(dossier["status"]),
                occurred_at=moment.now,
                recorded_at=moment.now,
                agency=dossier["agency"],
                department=None,
                actor=_actor(request.client, None),
                source=request.client.id,
                source_event_id=request.key,
                official_number=number.text,
            ),
        )
        return {"code": code.text, "version": version + 1, "official_number": number.text}

    async def _locked(
        self,
        connection: Any,
        request: KeyedRequest,
        code: DossierCode,
        action: str,
        expected_version: int | None,
        catalogue: Catalogue,
    ) -> Any:
        dossier = await connection.fetchrow(LOCK_DOSSIER, code.text)
        if dossier is None or dossier["removed"]:
            raise UnknownDossier
        request.client.require(action, dossier["agency"], catalogue)
        if expected_version is not None and dossier["version"] != expected_version:
            raise VersionMismatch(
                f"The dossier is at version {dossier['version']}, the request expects version {expected_version}.",
                version=dossier["version"],
                status=Status(dossier["status"]).slug,
            )
        return dossier

    @staticmethod
    async def _append(connection: Any, epoch: int, prev_hash: bytes, event: Event) -> None:
        appended = await connection.fetchrow(APPEND_EVENT, *event.row(epoch, prev_hash))
        # The relay's span of the delivery names the same event.
        tracing.annotate(**{"hoso24.event": f"{appended['xid']}-{appended['seq']}"})


def _after_submission(at: datetime, submitted_at: datetime) -> datetime:
    """The later of both. Raises InvalidContent if `at` is before the submission by more than clocks may differ."""
    if at < submitted_at - TOLERANCE:
        raise InvalidContent(f"at: {at.isoformat()} is before the submission of the dossier")
    return max(at, submitted_at)


def _must_be_valid(each: Agency | Service, at: datetime, catalogue: Catalogue) -> None:
    """Raise AgencyEnded, AgencyNotBegun, ServiceEnded or ServiceNotBegun unless it is in force that day in Vietnam."""
    day = at.astimezone(VIETNAM).date()
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


def _actor(client: Client, officer: str | None) -> str:
    return f"{client.id}/{nfc(officer)}" if officer else client.id
