"""Changes, and how soon lookups answer with them: `python -m loadtests.bench.prober` with a Probe as JSON.

Each change goes through the intake's HTTP. When that has answered, the change is committed, and every lookup is asked
for the code every few milliseconds until it answers with the new version or a later one. A little before its change
every lookup has been asked for the code, and so has a copy of the old version to be rid of. Prints BEGUN and REPORT
with one line of JSON, as flood.py does.
"""

import asyncio
import dataclasses
import gc
import json
import os
import sys
import time
from collections import deque

import uvloop

from loadtests.bench.arrivals import OK, Requests
from loadtests.bench.dossiers import code
from loadtests.bench.probe import TOKEN, Probe, Seen, Sightings
from loadtests.bench.wire import Pool, Told, Wire

TICK_SECONDS = 0.004
PRIME_SECONDS = 0.5
INTAKE_CONNECTIONS, LOOKUP_CONNECTIONS = 8, 32
DEPARTMENTS = ("Phòng Chế độ (hư cấu)", "Phòng Kế hoạch (hư cấu)")


class Counter:
    """A server, and whoever waits for one of the connections to it."""

    def __init__(self, port: int, connections: int) -> None:
        self.pool = Pool([port], connections, self._send_next)
        self._waiting: deque[tuple[bytes, Told, object]] = deque()

    def ask(self, request: bytes, told: Told, about: object) -> None:
        """Send the request as soon as a connection is free; `told(about, status, body)` when it is answered."""
        self._waiting.append((request, told, about))
        self.pool.offer()

    def _send_next(self, wire: Wire) -> bool:
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
    """Makes the changes and watches them."""

    def __init__(self, probe: Probe, token: str) -> None:
        self._probe = probe
        self._numbers = range(probe.first, probe.first + probe.count, probe.step)
        self._requests = Requests(0, probe.first + probe.count, seed=2)
        self._authorization = f"Authorization: Bearer {token}\r\n"
        self._intake = Counter(probe.intake, INTAKE_CONNECTIONS)
        self._lookups = [Counter(port, LOOKUP_CONNECTIONS) for port in probe.lookups]
        self._watches: set[Watch] = set()
        self._sightings = Sightings(len(probe.lookups))
        self._primed = self._sent = 0
        self._began = 0.0

    async def open(self) -> None:
        """Open the connections. Raises OSError."""
        for counter in (self._intake, *self._lookups):
            await counter.pool.open()

    async def close(self) -> None:
        """Close them."""
        for counter in (self._intake, *self._lookups):
            await counter.pool.close()

    async def run(self) -> Seen:
        """Make all changes, and watch the last until it is seen or nobody believes in it any more."""
        self._began = time.perf_counter()
        total = int(self._probe.rate * self._probe.seconds)
        end = PRIME_SECONDS + self._probe.seconds + self._probe.patience
        while self._watches or self._sightings.heard < total:
            now = self._now()
            if now > end and not self._watches:
                break  # the intake owes answers; those changes are not made
            while self._primed < min(total, now * self._probe.rate):
                self._prime(self._number(self._primed))
                self._primed += 1
            while self._sent < min(total, (now - PRIME_SECONDS) * self._probe.rate):
                self._change(self._number(self._sent), self._sent)
                self._sent += 1
            self._look_again(now)
            await asyncio.sleep(TICK_SECONDS)
        return self._sightings.seen(total, self._probe.seconds)

    def _number(self, n: int) -> int:
        return self._numbers[n % len(self._numbers)]

    def _prime(self, number: int) -> None:
        for lookup in self._lookups:
            lookup.ask(self._requests.about(number), _ignore, None)

    def _change(self, number: int, n: int) -> None:
        # The next department takes over; every round through the codes the other one.
        department = DEPARTMENTS[n // len(self._numbers) % len(DEPARTMENTS)]
        body = json.dumps({"to": "processing", "department": department}).encode()
        head = f"POST /api/v1/dossiers/{code(number)}/transitions HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._authorization}"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._intake.ask(head.encode() + length.encode() + body, self._changed, number)

    def _changed(self, number: int, status: int, body: bytes) -> None:
        now = self._now()
        if status != OK:
            self._sightings.refused(f"{status} {body.decode(errors='replace')}")
            return
        version = json.loads(body)["version"]
        self._sightings.changed(now - PRIME_SECONDS)
        for lookup in range(len(self._lookups)):
            watch = Watch(lookup, number, version, now)
            self._watches.add(watch)
            self._look(watch)

    def _look_again(self, now: float) -> None:
        for watch in [each for each in self._watches if not each.asking or now - each.since > self._probe.patience]:
            if now - watch.since > self._probe.patience:
                self._watches.discard(watch)
                self._sightings.missed(watch.lookup)
            else:
                self._look(watch)

    def _look(self, watch: Watch) -> None:
        watch.asking = True
        self._lookups[watch.lookup].ask(self._requests.about(watch.number), self._looked, watch)

    def _looked(self, watch: Watch, status: int, body: bytes) -> None:
        watch.asking = False
        if status == OK and watch in self._watches and json.loads(body)["version"] >= watch.version:
            self._watches.discard(watch)
            self._sightings.saw(watch.lookup, self._now() - watch.since)

    def _now(self) -> float:
        return time.perf_counter() - self._began


def _ignore(_: object, status: int, body: bytes) -> None:
    """The answer has done what it was for when it is there."""


async def _run(probe: Probe, token: str) -> Seen:
    prober = Prober(probe, token)
    gc.disable()  # as in flood.py
    try:
        await prober.open()
        print("BEGUN", flush=True)
        return await prober.run()
    finally:
        await prober.close()


def main() -> None:
    """Probe as the first argument says, with the token of the environment."""
    probe = Probe(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(_run(probe, os.environ[TOKEN]))
    print("REPORT", json.dumps(dataclasses.asdict(seen)), flush=True)


if __name__ == "__main__":
    main()
