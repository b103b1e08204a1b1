"""An open loop of lookups: `python -m loadtests.bench.flood` with a Flood as JSON.

Unlike wrk it does not wait for answers before it asks for more: people come whatever becomes of those before them.
Between them and the server stands a pool of connections, as an ingress has it: an arrival that finds none free waits in
a queue. Prints BEGUN once they begin to come, and REPORT with one line of JSON at the end.
"""

import asyncio
import dataclasses
import gc
import json
import sys
import time

import uvloop

from loadtests.bench.arrivals import Arrivals, Flood, Report, Requests
from loadtests.bench.wire import KeptConnection, Pool

TICK_SECONDS = 0.002
CONNECT_SECONDS = 20.0


class Ingress:
    """All arrivals, and the connections they share."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._arrivals = Arrivals(flood)
        self._requests = Requests(flood.first, flood.count, flood.seed)
        self._pool = Pool(flood.ports, flood.connections, self._send_next)
        self._began = 0.0

    async def open(self) -> None:
        """Open the connections, before the first arrival. Raises OSError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._pool.open()

    async def close(self) -> None:
        """Close them, whatever still waits."""
        await self._pool.close()

    async def run(self) -> Report:
        """Let them come, and wait for the last to be answered or to give up."""
        self._began = time.perf_counter()
        worked = time.process_time()
        lag = before = 0.0
        while not self._arrivals.over and before < self._flood.seconds + self._flood.patience:
            now = self._now()
            lag = max(lag, now - before - TICK_SECONDS)
            before = now
            self._pool.offer()
            await asyncio.sleep(TICK_SECONDS)
        return self._arrivals.report(lag, (time.process_time() - worked) / self._now())

    def _send_next(self, wire: KeptConnection) -> bool:
        n = self._arrivals.take(self._now()) if self._began else None
        if n is None:
            return False
        wire.ask(self._requests.nth(n), self._answered, n)
        return True

    def _answered(self, n: int, status: int, body: bytes) -> None:
        self._arrivals.settle(n, status, self._now())

    def _now(self) -> float:
        return time.perf_counter() - self._began


async def _run(flood: Flood) -> Report:
    ingress = Ingress(flood)
    gc.disable()  # nearly nothing here is in a cycle, and a pause would be taken for the server's
    try:
        await ingress.open()
        print("BEGUN", flush=True)
        return await ingress.run()
    finally:
        await ingress.close()


def main() -> None:
    """Flood as the first argument says."""
    flood = Flood(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_run(flood))
    print("REPORT", json.dumps(dataclasses.asdict(report)), flush=True)


if __name__ == "__main__":
    main()
