"""What a lookup costs beside what it cost before: processor time of its process for each answer, in turns.

Time on the clock says as much of the machine as of the program; processor time for each answer says less of it. Each
ratio is of two runs that follow one another; the interval is of the median of all ratios and needs no assumption about
how they are spread. A gate is kept unless the whole interval lies beyond it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psutil

from loadtests.bench.earlier import COMMIT, earlier
from loadtests.bench.load import WrkLoad
from loadtests.bench.rig import CaseOutcome, Judged, Rig
from loadtests.bench.servers import BenchServer, ours

TITLE = f"processor time of an answer ÷ that at {COMMIT}, 15 rounds of 2 s in turns, 64 connections"

ROUNDS, SECONDS, CONNECTIONS = 15, 2.0, 64
AROUND = 3
"""Ratios left out at each end of the fifteen: the rest is the 90 % interval of their median, or a wider one (96 %)."""
MOST = 1.03
LEAST_OF_BEFORE = 0.93
"""The share of COMMIT's rate below which no later change may bring a hot lookup."""


@dataclass
class Gate:
    """A load, and what each round found: (ours, before), in seconds of processor time for each answer."""

    name: str
    load: WrkLoad
    most: float
    settings: dict[str, str] = field(default_factory=dict)
    rounds: list[tuple[float, float]] = field(default_factory=list)

    def judged(self) -> Judged:
        """The median ratio and its interval, beside the gate."""
        middle, low, high = interval([own / before for own, before in self.rounds])
        figure = f"{middle:.3f} ({low:.3f} – {high:.3f})"
        return Judged("gate", f"{self.name}: ours ÷ {COMMIT}", figure, f"at most {self.most:.3g}", low <= self.most)


def gates(rig: Rig) -> list[Gate]:
    """What is measured: an answer given again, a dossier's first answer out of memory, and a read of Redis."""
    few = range(1, 1 + min(5000, rig.dossiers - 1))
    return [
        Gate("hot", WrkLoad("constant", rig.spare[:1], CONNECTIONS, SECONDS), min(MOST, 1 / LEAST_OF_BEFORE)),
        Gate("from memory", WrkLoad("random", few, CONNECTIONS, SECONDS), MOST),
        Gate("warm", WrkLoad("random", rig.many, CONNECTIONS, SECONDS), MOST, {"HOSO24_MEMORY_BYTES": "0"}),
    ]


def seconds(rig: Rig) -> float:
    return 60 + len(gates(rig)) * (2 * ROUNDS * (SECONDS + 0.5) + len(rig.many) / 2000)


def measure(rig: Rig) -> CaseOutcome:
    rig.say(f"Starting a system of {COMMIT} beside it …")
    broken = 0
    measured = gates(rig)
    with earlier(rig.dossiers) as before:
        for gate in measured:
            with ours(rig.system, **gate.settings).start() as new, before(**gate.settings).start() as old:
                broken += sum(_fill(rig, gate, server) for server in (new, old))
                rig.patience.wait_for_quiet((rig.system.pid, new.pid, old.pid))
                for turn in range(ROUNDS):
                    in_turn = (new, old) if turn % 2 else (old, new)
                    costs = {}
                    for server in in_turn:
                        costs[server], errors = _cost(rig, server, gate.load.turn(turn))
                        broken += errors
                    gate.rounds.append((costs[new], costs[old]))
            own, other = (1e6 * statistics.median(column) for column in zip(*gate.rounds, strict=True))
            rig.say(f"gate, {gate.name}: ours {own:.1f} µs, {COMMIT} {other:.1f} µs; {gate.judged().figure}")
    return CaseOutcome([], [gate.judged() for gate in measured], broken)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the lowest and highest ratio that are not left out."""
    ordered = sorted(ratios)
    return statistics.median(ordered), ordered[AROUND], ordered[-1 - AROUND]


def _fill(rig: Rig, gate: Gate, server: BenchServer) -> int:
    """Each of the load's codes asked for once, so that rounds find what they are about. Returns the errors."""
    codes = gate.load.codes
    return rig.put(server, replace(gate.load, script="once", seconds=10 + len(codes) / 500)).errors if codes[1:] else 0


def _cost(rig: Rig, server: BenchServer, load: WrkLoad) -> tuple[float, int]:
    """Seconds of processor time for each answer, and the errors."""
    process = psutil.Process(server.pid)
    began = sum(process.cpu_times()[:2])
    figures = rig.put(server, load)
    return (sum(process.cpu_times()[:2]) - began) / max(1, figures.answers), figures.errors
