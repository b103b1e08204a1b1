"""Changes, and how soon lookups answer with them: `python -m loadtests.bench.prober` with a Probe as JSON.

As soon as a change is known to be committed, every lookup is asked for the code every few milliseconds until it answers
with the new version or a later one. A little before its change every lookup has been asked for the code, and so has a
copy of the old version to be rid of. Prints BEGUN and REPORT with one line of JSON, as flood.py does.

The changes are written by a statement that does what the intake's ledger does, not through the intake: that, Postgres
and the load on one core make no more than 170 a second of them.
"""

import asyncio
import dataclasses
import gc
import json
import os
import sys
import time
from collections import deque
from typing import Any

import asyncpg
import uvloop

from loadtests.bench.arrivals import OK, Requests
from loadtests.bench.probe import POSTGRES, ChangesSeen, Probe
from loadtests.bench.wire import KeptConnection, Pool, Told
from loadtests.system.computed_dossiers import move

TICK_SECONDS = 0.004
PRIME_SECONDS = 0.5
WRITER_CONNECTIONS, LOOKUP_CONNECTIONS = 4, 32
DEPARTMENTS = ("Phòng Chế độ (hư cấu)", "Phòng Kế hoạch (hư cấu)")


class Lookup:
    """A lookup, and the requests that wait for a connection to it."""

    def __init__(self, port: int, connections: int) -> None:
        self.pool = Pool([port], connections, self._send_next)
        self._waiting: deque[tuple[bytes, Told, object]] = deque()

    def ask(self, request: bytes, told: Told, about: object) -> None:
        """Send the request as soon as a connection is free; `told(about, status, body)` when it is answered."""
        self._waiting.append((request, told, about))
        self.pool.offer()

    def _send_next(self, wire: KeptConnection) -> bool:
        if not self._waiting:
            return False
        wire.ask(*self._waiting.popleft())
        return True


class Watch:
    """A change that one lookup has not answered with yet."""

    __slots__ = ("asking", "lookup", "number", "since", "version")

    def __init__(self, lookup: int, number: int, version: int, since: float) -> None:
        self.lookup = lookup
        self.number = number
        self.version = version
        self.since = since
        self.asking = False


class Prober:
    """Makes the changes on connections of `writers`, an asyncpg pool, and watches them."""

    def __init__(self, probe: Probe, writers: Any) -> None:
        self._probe = probe
        self._writers = writers
        self._numbers = range(probe.first, probe.first + probe.count, probe.step)
        self._requests = Requests(0, probe.first + probe.count, seed=2)
        self._lookups = [Lookup(port, LOOKUP_CONNECTIONS) for port in probe.lookups]
        self._changes: set[asyncio.Task[None]] = set()
        self._watches: set[Watch] = set()
        self._seen = ChangesSeen(probe.seconds, [[] for _ in probe.lookups], [0] * len(probe.lookups))
        self._primed = self._sent = 0
        self._began = 0.0

    async def open(self) -> None:
        """Open the connections. Raises OSError."""
        for lookup in self._lookups:
            await lookup.pool.open()

    async def close(self) -> None:
        """Close them, whatever is under way."""
        for task in self._changes:
            task.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        for lookup in self._lookups:
            await lookup.pool.close()

    async def run(self) -> ChangesSeen:
        """Make all changes, and watch the last until it is seen or given up.

        Raises what kept a change from being made.
        """
        self._began = time.perf_counter()
        total = int(self._probe.rate * self._probe.seconds)
        end = PRIME_SECONDS + self._probe.seconds + self._probe.patience
        while self._watches or self._seen.made < total:
            now = self._now()
            if now > end and not self._watches:
                break  # Postgres is behind; the rest has not been made
            while self._primed < min(total, now * self._probe.rate):
                self._prime(self._number(self._primed))
                self._primed += 1
            while self._sent < min(total, (now - PRIME_SECONDS) * self._probe.rate):
                self._changes.add(asyncio.create_task(self._change(self._sent)))
                self._sent += 1
            for change in [each for each in self._changes if each.done()]:
                self._changes.discard(change)
                change.result()
            self._look_again(now)
            await asyncio.sleep(TICK_SECONDS)
        return self._seen

    def _number(self, n: int) -> int:
        return self._numbers[n % len(self._numbers)]

    def _prime(self, number: int) -> None:
        for lookup in self._lookups:
            lookup.ask(self._requests.about(number), _ignore, None)

    async def _change(self, n: int) -> None:
        number = self._number(n)
        # Every round through the codes another department takes over.
        department = DEPARTMENTS[n // len(self._numbers) % len(DEPARTMENTS)]
        async with self._writers.acquire() as writer:
            version = await move(writer, number, department)
            now = self._now()
        self._seen.changed(now - PRIME_SECONDS)
        for lookup in range(len(self._lookups)):
            watch = Watch(lookup, number, version, now)
            self._watches.add(watch)
            self._look(watch)

    def _look_again(self, now: float) -> None:
        for watch in [each for each in self._watches if not each.asking or now - each.since > self._probe.patience]:
            if now - watch.since > self._probe.patience:
                self._watches.discard(watch)
                self._seen.missed[watch.lookup] += 1
            else:
                self._look(watch)

    def _look(self, watch: Watch) -> None:
        watch.asking = True
        self._lookups[watch.lookup].ask(self._requests.about(watch.number), self._looked, watch)

    def _looked(self, watch: Watch, status: int, body: bytes) -> None:
        watch.asking = False
        if status == OK and watch in self._watches and json.loads(body)["version"] >= watch.version:
            self._watches.discard(watch)
            self._seen.took[watch.lookup].append(self._now() - watch.since)

    def _now(self) -> float:
        return time.perf_counter() - self._began


def _ignore(_: object, status: int, body: bytes) -> None:
    """The answer has done what it was for when it is there."""


async def _run(probe: Probe, postgres: str) -> ChangesSeen:
    size = WRITER_CONNECTIONS
    async with asyncpg.create_pool(postgres, min_size=size, max_size=size) as writers:
        prober = Prober(probe, writers)
        gc.disable()  # as in flood.py
        try:
            await prober.open()
            print("BEGUN", flush=True)
            return await prober.run()
        finally:
            await prober.close()


def main() -> None:
    """Probe as the first argument says, in the database of the environment."""
    probe = Probe(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(_run(probe, os.environ[POSTGRES]))
    print("REPORT", json.dumps(dataclasses.asdict(seen)), flush=True)


if __name__ == "__main__":
    main()
