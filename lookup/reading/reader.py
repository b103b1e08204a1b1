"""The eight steps of a lookup, as README tells them too.

1. Code. Any spelling of a code is redirected to its one canonical address. Text that cannot be a code is refused
   with a hint, before anything is read.
2. Lookup key. A key that does not belong to its code is refused before anything is read, so that a known and an
   unknown code look alike. (A replaced key, or one sent with an official number, is refused once the dossier is read.)
   Without a key, each dossier that is new to the client is charged to its networks: 429 over an allowance, unread.
3. Memory. A copy in process memory is the answer if it is younger than the soft age (60 s) and no change can have
   been missed since it was read. The heartbeat of the change stream keeps copies young. Past half of the soft age, a
   refresh starts in the background.
4. Redis. Otherwise the copy is read from Redis, in one command with all other codes wanted at that moment. It is
   the answer if it is young enough and not below a version this process has seen or heard of.
5. PostgreSQL. Otherwise the record is loaded from the freshest standby, or from the primary. Lookups of one code
   share a load, and up to 256 codes travel in one query. Redis stores the record only over a lower version; what Redis
   then holds is the answer.
6. Primary. The primary is asked if a standby has no such dossier, or if the record is below a version seen, heard
   of or requested with `at_least`. PostgreSQL is also asked if a copy says "no such dossier" although the key proves
   that the code was issued.
7. Official number. A code without a dossier may be an official number. If it is, the code behind it is looked up,
   from step 3 on.
8. Failures. Without Redis, memory and PostgreSQL answer. Without PostgreSQL, the best copy seen is the answer, up
   to the hard age (a day). It is marked `stale`, with its `as_of`, if it is older than the soft age or below a known
   version, or cannot be confirmed. Without a copy the answer is 503, never "no such dossier".

Steps 1 and 2 are taken before the reader is asked. A refresh in the background goes through steps 4 to 6.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from lookup import code as codes
from lookup import metrics
from lookup.cache import Cache, dossier_key, number_key
from lookup.clock import Micros
from lookup.code import DossierCode, Scheme
from lookup.dossier import Record, unpack
from lookup.reading.batching import Permits
from lookup.reading.freshness import Freshness
from lookup.reading.memory import Memory
from lookup.reading.read_through import Answer, ReadThrough, StatusUnavailable
from lookup.reading.store import Store
from lookup.reading.vitals import Vitals


@dataclass(frozen=True, slots=True)
class Found:
    """A dossier and its freshness."""

    record: Record
    as_of: Micros
    age: int
    """Microseconds since this was known to be current."""
    stale: bool
    source: str
    epoch: int
    """Versions count within an epoch: after a restore the same number may stand for other content."""


class Missing(NamedTuple):
    """No dossier has this code or number, or it was removed."""

    source: str


class Reader:
    """Looks dossiers up by code or by official number. `queries`: limit of concurrent queries to PostgreSQL."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        vitals: Vitals,
        freshness: Freshness,
        *,
        memory: Memory,
        queries: int,
        deadline: float,
    ) -> None:
        self.vitals = vitals
        permits = Permits(queries)
        self.dossiers = ReadThrough(
            cache,
            store.dossiers,
            dossier_key,
            vitals,
            freshness,
            permits=permits,
            floors=vitals.feed.floors,
            memory=memory,
            deadline=deadline,
        )
        self._numbers = ReadThrough(
            cache,
            store.numbers,
            number_key,
            vitals,
            freshness,
            permits=permits,
            floors=vitals.feed.number_floors,
            deadline=deadline,
        )
        self._deadline = deadline

    async def find(
        self,
        code: DossierCode,
        at_least: int = 0,
        *,
        issued: bool = False,
        before_primary: Callable[[], None] | None = None,
    ) -> Found | Missing:
        """The dossier with this code or official number.

        `issued`: this code was issued, so a cached "none" is not believed. A removed dossier is Missing. While
        PostgreSQL is unreachable memory and Redis answer (marked stale by age), while Redis is, PostgreSQL does. Raises
        VersionNotReached when the primary stands below `at_least`; StatusUnavailable when no source answers, or none
        that can know `at_least`, within the deadline; Overloaded when the process is overloaded.
        """
        try:
            async with asyncio.timeout(self._deadline):
                answer, record = await self._decoded(code, at_least, issued, before_primary)
        except TimeoutError as late:
            raise StatusUnavailable from late
        if record is None:
            return Missing(answer.source)
        return Found(record, answer.entry.as_of, answer.age, answer.stale, answer.source, self.vitals.feed.epoch)

    async def _decoded(
        self, code: DossierCode, at_least: int, issued: bool, before_primary: Callable[[], None] | None
    ) -> tuple[Answer, Record | None]:
        name, answer = await self._resolve(code, at_least, issued, before_primary)
        try:
            return answer, decode(answer)
        except msgspec.DecodeError:
            # Another release's format, or damage: delete the copy and load this dossier again.
            metrics.UNREADABLE.inc()
            await self.dossiers.discard(name)
            answer = await self.dossiers.get(name, at_least)
            return answer, decode(answer)

    async def _resolve(
        self, code: DossierCode, at_least: int, issued: bool, before_primary: Callable[[], None] | None
    ) -> tuple[str, Answer]:
        """The answer and its code: the name itself, or the code behind an official number."""
        name = code.text
        if code.scheme is not Scheme.D:  # official numbers have the form of scheme D
            return name, await self.dossiers.get(name, at_least, issued=issued, before_primary=before_primary)
        answer = await self.dossiers.get(name, issued=issued)
        if answer.entry.version > 0:
            if answer.entry.version >= at_least:
                return name, answer
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        behind = await self._behind(name)
        if behind is not None:
            return behind, await self.dossiers.get(behind, at_least, before_primary=before_primary)
        if at_least:  # both answers may have come from copies
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        return name, answer

    async def behind(self, number: DossierCode) -> DossierCode | None:
        """The code bound to this official number, None without one. Raises StatusUnavailable, Overloaded."""
        try:
            async with asyncio.timeout(self._deadline):
                text = await self._behind(number.text)
        except TimeoutError as late:
            raise StatusUnavailable from late
        return None if text is None else codes.parse(text)

    async def _behind(self, number: str) -> str | None:
        entry = (await self._numbers.get(number)).entry
        if entry.version == 0:
            return None
        code = entry.body.decode()
        self.vitals.feed.floors.hear(code, entry.version)  # bound by an event of that version
        return code


def decode(answer: Answer) -> Record | None:
    """The record in an answer; None for a missing or removed dossier. Raises msgspec.DecodeError for another form."""
    return unpack(answer.entry.body) if answer.entry.body else None
