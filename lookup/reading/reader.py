"""One lookup, told in the order in which it is answered.

1. Process memory has a copy that may go out as it is: that is the answer. Past half the soft age, a refresh begins
   behind it.
2. Otherwise the code's copy is read from Redis, together with whatever else is wanted at that moment. Young enough,
   and not below a version this process has seen or heard of: that is the answer.
3. Otherwise it is loaded from Postgres, shared and batched: from the freshest standby, or the primary.
4. What was loaded goes into Redis by compare-and-set; whatever wins there is the answer, and is kept in memory.
5. Below a version seen, heard of or asked for, or not to be found on a standby: the primary is asked, once more.
6. Postgres away: the best copy seen on the way is the answer, marked, up to the hard age. No copy: unavailable, never
   "no such dossier".
7. "No such dossier" under a code may still be an official number: then its code is looked up the same way.
8. "No such dossier" from a copy, to somebody whose key shows that the code was given out: Postgres is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from lookup import metrics
from lookup.cache import Cache, dossier_key, number_key
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
    """A dossier and how fresh it is."""

    record: Record
    as_of: int
    age: int
    """Microseconds since this was certainly the truth."""
    stale: bool
    source: str
    epoch: int = 1
    """Versions count within an epoch: after a restore the same number may mean something else."""


class Missing(NamedTuple):
    """No dossier has this code or number, or it was removed."""

    source: str


class Reader:
    """Looks dossiers up by code or by official number. `queries`: those under way in Postgres at the most."""

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
        before_primary: Callable[[], Awaitable[None]] | None = None,
    ) -> Found | Missing:
        """The dossier with this code or official number.

        `issued`: this code was certainly given out, so that no copy is believed which says there is none.
        A removed dossier is one there is not. Answers from memory and Redis when Postgres is away (marked stale
        once the age says so) and from Postgres when Redis is. Raises StatusUnavailable when nobody can answer, or when
        no version as high as `at_least` can be had, within the deadline; Overloaded when there is too much to do.
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
        self, code: DossierCode, at_least: int, issued: bool, before_primary: Callable[[], Awaitable[None]] | None
    ) -> tuple[Answer, Record | None]:
        name, answer = await self._resolve(code, at_least, issued, before_primary)
        try:
            return answer, decode(answer)
        except msgspec.DecodeError:
            # Another release's form, or damage: dropped, and loaded anew for this one dossier alone.
            metrics.UNREADABLE.inc()
            await self.dossiers.discard(name)
            answer = await self.dossiers.get(name, at_least)
            return answer, decode(answer)

    async def _resolve(
        self, code: DossierCode, at_least: int, issued: bool, before_primary: Callable[[], Awaitable[None]] | None
    ) -> tuple[str, Answer]:
        """The answer, and the code it is kept under: the name itself, or the code behind an official number."""
        name = code.text
        if code.scheme is not Scheme.D:  # no official number has any other form
            return name, await self.dossiers.get(name, at_least, issued=issued, before_primary=before_primary)
        answer = await self.dossiers.get(name, issued=issued)
        if answer.entry.version > 0:
            if answer.entry.version >= at_least:
                return name, answer
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        number = await self._numbers.get(name)
        if number.entry.version > 0:
            behind = number.entry.body.decode()
            self.vitals.feed.floors.hear(behind, number.entry.version)  # bound by an event of that version
            return behind, await self.dossiers.get(behind, at_least, before_primary=before_primary)
        if at_least:  # what both said may have been a copy's word
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        return name, answer


def decode(answer: Answer) -> Record | None:
    """The record in an answer; None for a missing or removed dossier. Raises msgspec.DecodeError for another form."""
    return unpack(answer.entry.body) if answer.entry.body else None
