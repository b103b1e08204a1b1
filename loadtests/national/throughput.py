"""wrk on one running lookup, over random codes: cold, warm and hot, and what each answer cost which process.

As in the bench, the lookup has the first core to itself and everything else shares the second. Processor time for each
answer says more than answers a second: it depends less on who else wanted the second core.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import redis

from loadtests.bench import load as wrk
from loadtests.bench.load import Figures, WrkLoad
from loadtests.bench.servers import BenchServer, Contestant, ours
from loadtests.bench.usage import Meter
from loadtests.codes import address
from loadtests.national.findings import WrkRun
from loadtests.system.installation import Installation
from loadtests.system.processes import CannotMeasure

CONNECTIONS = 64
SPARE = 2000
"""Of the codes, those at the beginning of the list: for warming a server up, and in no measured run."""
WARM_UP_SECONDS = 2.0
LONGEST = 6.0
"""How many times as long a run may take that is over when every code was asked for."""
NO_MEMORY = {"HOSO24_MEMORY_BYTES": "0"}
SERVERS = {"postgres": "postgres", "valkey-server": "redis"}
"""Name of a process → what it is called in `WrkRun.cpu`."""

FROM_DISK, FROM_MEMORY, FROM_REDIS, HOT = (
    "cold, data on disk",
    "cold, data in memory",
    "warm, from Redis",
    "hot, from process memory",
)
NAMES = (FROM_DISK, FROM_MEMORY, FROM_REDIS, HOT)


@dataclass(frozen=True)
class Stand:
    """One system with its relay, the codes to ask it for, and how long a run takes, in seconds."""

    system: Installation
    relay: int
    codes: Sequence[str]
    seconds: float
    say: Callable[[str], None]

    @property
    def asked(self) -> range:
        """The codes of measured runs, by their place in the list."""
        return range(min(SPARE, len(self.codes) // 10), len(self.codes))

    def from_disk(self) -> WrkRun:
        """Each code once, by a Postgres just started on files that the kernel has forgotten."""
        return self._run(FROM_DISK, ours(self.system, **NO_MEMORY), self._once(1))

    def from_memory(self) -> dict[str, WrkRun]:
        """Each code once, when what it takes is in memory already; then, at random, from Redis and from the process."""
        return {
            FROM_MEMORY: self._run(FROM_MEMORY, ours(self.system, **NO_MEMORY), self._once(LONGEST)),
            FROM_REDIS: self._run(FROM_REDIS, ours(self.system, **NO_MEMORY), self._random(), filled=True),
            HOT: self._run(HOT, ours(self.system), self._random(), filled=True),
        }

    def redis_bytes(self) -> float:
        """What one dossier takes in Redis, with its key: the growth of Redis while all were asked for."""
        self.system.empty_redis()
        with redis.Redis.from_url(self.system.redis) as client:
            before, keys = int(client.info("memory")["used_memory"]), client.dbsize()
            with ours(self.system, **NO_MEMORY).start() as server:
                self._fill(server)
            return (int(client.info("memory")["used_memory"]) - before) / int(client.dbsize() - keys)

    def _run(self, name: str, contestant: Contestant, load: WrkLoad, *, filled: bool = False) -> WrkRun:
        if not filled:
            self.system.empty_redis()
        with contestant.start() as server:
            if filled:
                self._fill(server)
            self._put(server, WrkLoad("once", range(self.asked.start), CONNECTIONS, WARM_UP_SECONDS, seed=0))
            meter, before = Meter((self.system.pid, self.relay, server.pid)), self._processor_seconds(server)
            figures = self._put(server, load)
            usage, after = meter.read(), self._processor_seconds(server)
        answers = max(1, figures.answers)
        run = WrkRun(
            connections=load.connections,
            answers=figures.answers,
            seconds=figures.seconds,
            median=figures.median,
            p99=figures.p99,
            errors=figures.errors,
            cpu={part: 1e6 * (after[part] - before[part]) / answers for part in after},
            strangers=usage.strangers,
        )
        trouble = figures.trouble or "no errors"
        self.say(f"{name}: {run.rate:,.0f}/s, median {run.median:.1f} ms, p99 {run.p99:.1f} ms; {trouble}")
        return run

    def _fill(self, server: BenchServer) -> None:
        """Have this lookup asked for every code of the measured runs: then Redis has them, and it, if it keeps any."""
        figures = self._put(server, self._once(10 * LONGEST))
        if figures.errors or figures.answers < len(self.asked):
            raise CannotMeasure(
                f"Of {len(self.asked):,} codes asked for {figures.answers:,} were answered; {figures.trouble}."
            )

    def _once(self, longest: float) -> WrkLoad:
        return WrkLoad("once", self.asked, CONNECTIONS, longest * self.seconds)

    def _random(self) -> WrkLoad:
        return WrkLoad("random", self.asked, CONNECTIONS, self.seconds)

    def _put(self, server: BenchServer, load: WrkLoad) -> Figures:
        listed = self.system.folder / "asked.txt"
        listed.write_text("".join(f"{address(code)}\n" for code in self.codes), "utf-8")
        return wrk.put(load, server.url, address(self.codes[load.codes.start]), self.system.folder, listed=listed)

    def _processor_seconds(self, server: BenchServer) -> dict[str, float]:
        """What each part has used so far."""
        return {"lookup": _seconds(psutil.Process(server.pid)), **of_servers(self.system)}


def of_servers(system: Installation) -> dict[str, float]:
    """Seconds of processor time of Postgres and Redis since they were started, sessions that have ended included."""
    seconds = dict.fromkeys(SERVERS.values(), 0.0)
    for process in psutil.Process(system.pid).children(recursive=True):
        try:
            part = SERVERS.get(process.name())
            if part is not None:
                seconds[part] += _seconds(process)
        except psutil.NoSuchProcess:
            continue  # by now it is in what its parent's children have used
    return seconds


def _seconds(process: psutil.Process) -> float:
    """Its own, and that of its children that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
