"""The sandbox's task in the intake: ten dossiers that stand still, and one each hour that moves by itself.

They are rows and sealed events like all others: relay, feed and webhooks carry them, and all their times are true.
Every hour a dossier is submitted online and goes its WAY within 55 minutes. One that is under way when the task stops
goes on afterwards, each step as long after the one before as ever; hours in between have none, and that of the present
hour begins late. Dossiers of the sandbox that were received KEPT ago, those of developers too, are removed;
`hoso24 tidy` then erases their events.

Which step is next is told by the dossier itself, so nothing is kept besides. Any number of intakes run the task, and
one of them works: each transaction first renews the lease in `sandbox_lease`, whose row it holds locked, under the
token that the intake got with it. An intake that was stopped meanwhile finds another token and does nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from intake.books.ledger import IS_TAKEN, Program
from intake.books.seal import SealKeys
from intake.books.sequences import RAISE_SEQUENCES
from intake.rules.apply import code_day
from intake.rules.changes import Move, Reception, Removal, State
from intake.rules.requests import Applicant
from lookup import sandbox
from lookup.catalogue import Catalogue, CatalogueCopy, Service, in_force
from lookup.clock import VIETNAM
from lookup.code import DossierCode, parse
from lookup.status import Status
from ops.errors import Refusal, Unavailable
from ops.observe.redaction import first_line
from ops.stores.postgres import TRANSACTION, Postgres

log = logging.getLogger(__name__)

HOLD = """
UPDATE sandbox_lease
   SET lease_until = now() + $2 * interval '1 second',
       lease_token = lease_token + (lease_token <> $1)::integer
 WHERE lease_token = $1
    OR lease_until < now()
RETURNING lease_token, now() AS now, (SELECT max(number) FROM epoch) AS epoch
"""

STANDING = """
SELECT code
  FROM dossier
 WHERE code = ANY ($1::text[])
"""

# Codes of one agency follow one another as the hours do that they say.
UNDER_WAY = """
SELECT code, status
  FROM dossier
 WHERE code BETWEEN $1 AND $2
   AND submitted_by IS NULL
   AND NOT removed
 ORDER BY code
"""

# All codes of an agency, and of no other one.
OVER = """
SELECT code
  FROM dossier AS d
 WHERE code > $1 || '-'
   AND code < $1 || '.'
   AND NOT removed
   AND code <> ALL ($2::text[])
   AND (SELECT recorded_at
          FROM event
         WHERE event.code = d.code
           AND version = 1) < $3
 ORDER BY code
 LIMIT $4
"""

EVERY: Final = 10.0
"""Seconds after which the lease is renewed, and looked for by the others."""
LEASE: Final = 30.0
"""Seconds for which it is held: how long the sandbox stands still when its intake is killed."""
LONGEST: Final = 10.0
"""Timeout of a transaction, in seconds; it takes some milliseconds."""
KEPT: Final = timedelta(days=7)
"""How long a dossier of the sandbox is kept."""
SWEPT_EVERY: Final = timedelta(minutes=10)
"""How often those are looked for that are over."""
AT_A_TIME: Final = 20
"""Dossiers that one transaction removes."""
OVER_REASON: Final = "Hồ sơ thử nghiệm, hết thời gian lưu."
_LAST_OF_A_DAY: Final = 2359
"""The running numbers up to here are times of the day. Developers' own dossiers of that agency come after them."""

_MADE_UP = Applicant(name="Nguyễn Văn Mẫu (hư cấu)", id="999000000024", phone="0000000024")
_PAPERS: dict[str, Any] = {"note": "Hồ sơ còn thiếu giấy tờ (thử nghiệm):", "items": ("Bản sao giấy tờ mẫu",)}
_NOTES: Final[dict[Status, dict[str, Any]]] = {
    Status.REJECTED: {"note": "Hồ sơ không thuộc thẩm quyền giải quyết (thử nghiệm)."},
    Status.SUPPLEMENT_REQUIRED: _PAPERS,
    Status.PAYMENT_REQUIRED: {"note": "Vui lòng nộp lệ phí mẫu 10.000 đồng (thử nghiệm)."},
    Status.WITHDRAWN: {"note": "Người nộp đề nghị rút hồ sơ (thử nghiệm)."},
    Status.SUSPENDED: {"note": "Chờ ý kiến của cơ quan khác (thử nghiệm)."},
}
"""What a move to such a status says."""


class Step(NamedTuple):
    """The next step of a moving dossier: to which status, and how many minutes after the one before."""

    to: Status
    minutes: int


_S = Status
WAY: Final = {
    (_S.SUBMITTED, 0): Step(_S.RECEIVED, 5),
    (_S.RECEIVED, 0): Step(_S.PROCESSING, 5),
    (_S.PROCESSING, 0): Step(_S.SUPPLEMENT_REQUIRED, 5),
    (_S.SUPPLEMENT_REQUIRED, 1): Step(_S.PROCESSING, 10),
    (_S.PROCESSING, 1): Step(_S.PAYMENT_REQUIRED, 5),
    (_S.PAYMENT_REQUIRED, 2): Step(_S.PROCESSING, 10),
    (_S.PROCESSING, 2): Step(_S.COMPLETED, 10),
    (_S.COMPLETED, 2): Step(_S.RETURNED, 5),
}
"""Status and number of pauses → the next step."""

TO_STAND: Final[dict[Status, tuple[Status, ...]]] = {
    _S.SUBMITTED: (_S.SUBMITTED,),
    _S.RECEIVED: (_S.RECEIVED,),
    _S.REJECTED: (_S.SUBMITTED, _S.REJECTED),
    _S.PROCESSING: (_S.RECEIVED, _S.PROCESSING),
    _S.SUPPLEMENT_REQUIRED: (_S.RECEIVED, _S.PROCESSING, _S.SUPPLEMENT_REQUIRED),
    _S.PAYMENT_REQUIRED: (_S.RECEIVED, _S.PROCESSING, _S.PAYMENT_REQUIRED),
    _S.WITHDRAWN: (_S.RECEIVED, _S.PROCESSING, _S.WITHDRAWN),
    _S.SUSPENDED: (_S.RECEIVED, _S.PROCESSING, _S.SUSPENDED),
    _S.COMPLETED: (_S.RECEIVED, _S.PROCESSING, _S.COMPLETED),
    _S.RETURNED: (_S.RECEIVED, _S.PROCESSING, _S.COMPLETED, _S.RETURNED),
}
"""The status in which a fixed dossier stands → its statuses from the first."""


class Sandbox:
    """Moves the dossiers of the sandbox whenever this intake holds the lease.

    `clock` makes the time that counts of the database's; tests let it run fast.
    """

    def __init__(
        self,
        postgres: Postgres,
        catalogue: CatalogueCopy,
        seals: SealKeys,
        *,
        clock: Callable[[datetime], datetime] = lambda now: now,
        every: float = EVERY,
    ) -> None:
        self._postgres = postgres
        self._catalogue = catalogue
        self._seals = seals
        self._clock = clock
        self._every = every
        self._token = -1
        self._all_stand = False
        self._swept_at: datetime | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Do what is due until cancelled. What keeps it from that is logged once, and it is tried again."""
        while True:
            trouble, seconds = "", self._every
            try:
                seconds = await self.turn()
            except Unavailable as away:
                log.debug("The sandbox stands still: %s", away)
            except asyncpg.PostgresError as refusal:
                trouble = f"PostgreSQL refuses: {first_line(refusal)}"
            except (NoSandbox, Refusal) as refusal:
                trouble = str(refusal)
            if trouble and trouble != self._trouble:
                log.warning("The sandbox stands still: %s", trouble)
            self._trouble = trouble
            await asyncio.sleep(seconds)

    async def turn(self) -> float:
        """Do what is due, in one transaction; the seconds until the next turn, 0 where more is due.

        Raises NoSandbox, Unavailable, and what PostgreSQL and `apply` refuse; then nothing was done.
        """
        catalogue = await self._catalogue.get()
        root = sandbox.root(catalogue)
        in_time = self._postgres.connection(LONGEST, operation=TRANSACTION)
        async with in_time as connection, connection.transaction():
            held = await connection.fetchrow(HOLD, self._token, LEASE)
            if held is None:
                return self._every
            now = self._clock(held["now"])
            work = _Turn(connection, self._seals, catalogue, root, now, held["epoch"])
            seconds = min(self._every, await work.moving())
            all_stand = self._all_stand or await work.fixed()
            swept = self._swept_at is not None and now - self._swept_at < SWEPT_EVERY
            swept_all = swept or await work.sweep()
        # Only what is committed counts: with a token of a transaction that failed, two could hold the lease.
        self._token, self._all_stand = held["lease_token"], all_stand
        if not swept:
            self._swept_at = now if swept_all else None
        return seconds if all_stand and swept_all else 0.0


class NoSandbox(Exception):
    """There is nothing to move; the message says what is missing, and what to do."""


class _Turn:
    """What is done in one transaction."""

    def __init__(
        self, connection: Any, seals: SealKeys, catalogue: Catalogue, root: str | None, now: datetime, epoch: int
    ) -> None:
        if root is None:
            raise NoSandbox("The catalogue has no sandbox. Load it: `hoso24 catalogue load --sandbox`.")
        self._connection = connection
        self._catalogue = catalogue
        self._root = root
        self._now = now
        self._program = Program(connection, seals, catalogue, source=sandbox.SOURCE, now=now, epoch=epoch)

    async def moving(self) -> float:
        """Start the dossier of this hour, and move on those that are due; the seconds until the next is."""
        here = self._now.astimezone(VIETNAM)
        hour = here.replace(minute=0, second=0, microsecond=0)
        first, last = (sandbox.moving(self._root, each).text for each in (hour - KEPT, hour))
        rows = await self._connection.fetch(UNDER_WAY, first, last)
        if not any(row["code"] == last for row in rows):
            await self._start(parse(last))
        due = [hour + timedelta(hours=1)]
        for row in rows:
            if not Status(row["status"]).final:
                due.append(await self._move_on(parse(row["code"])))
        return max(0.05, (min(due) - self._now).total_seconds())

    async def _start(self, code: DossierCode) -> None:
        """Begin the dossier of this hour, unless its code is another one's: then this hour has none."""
        day = code_day(self._now)
        await self._connection.execute(RAISE_SEQUENCES, [code.agency], [day], [_LAST_OF_A_DAY])
        if not await self._connection.fetchval(IS_TAKEN, code.text):
            await self._receive(code, Status.SUBMITTED)

    async def _move_on(self, code: DossierCode) -> datetime:
        """Take its next step if it is due; when the one after that is."""
        state = await self._program.state(code)
        step = _next(state)
        if step is not None and state.last_at + timedelta(minutes=step.minutes) <= self._now:
            state = await self._program.change(state, Move(to=step.to, **_NOTES.get(step.to, {})))
            step = _next(state)
        return self._now + KEPT if step is None else state.last_at + timedelta(minutes=step.minutes)

    async def fixed(self) -> bool:
        """Make the first of the fixed dossiers that is missing; whether none was."""
        codes = self._fixed()
        there = {row["code"] for row in await self._connection.fetch(STANDING, list(codes))}
        missing = next((code for code in codes if code not in there), None)
        if missing is None:
            return True
        first, *others = TO_STAND[codes[missing]]
        state = await self._receive(parse(missing), first)
        for to in others:
            state = await self._program.change(state, Move(to=to, **_NOTES.get(to, {})))
        return False

    async def sweep(self) -> bool:
        """Remove some of the dossiers that are over; whether no more are."""
        for agency in sorted(each.code for each in self._catalogue.agencies.values() if each.sandbox):
            over = await self._connection.fetch(OVER, agency, list(self._fixed()), self._now - KEPT, AT_A_TIME)
            for row in over:
                state = await self._program.state(parse(row["code"]))
                await self._program.change(state, Removal(reason=OVER_REASON), event_id=state.code)
            if len(over) == AT_A_TIME:
                return False
        return True

    def _fixed(self) -> dict[str, Status]:
        return {sandbox.fixed(self._root, status).text: status for status in Status}

    async def _receive(self, code: DossierCode, status: Status) -> State:
        service = _some_service(self._catalogue, self._now)
        reception = Reception(
            code=code.text,
            agency=code.agency,
            service=service.code,
            channel="online" if status is Status.SUBMITTED else "direct",
            status=status,
        )
        return await self._program.receive(reception, _MADE_UP)


def _next(state: State) -> Step | None:
    return WAY.get((state.status, len(state.pauses)))


def _some_service(catalogue: Catalogue, now: datetime) -> Service:
    """The first service in force that tells nothing of anyone. Raises NoSandbox if there is none."""
    services: Sequence[Service] = sorted(catalogue.services.values(), key=lambda each: each.code)
    for service in services:
        usual = any(limit.service_case == "default" for limit in service.times)
        if usual and not service.sensitive and in_force(service, code_day(now)):
            return service
    raise NoSandbox("The catalogue has no service in force that could be tried out. Load one: docs/catalogue.md.")
