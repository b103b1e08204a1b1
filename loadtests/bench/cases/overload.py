"""Three times as many as can be answered, who do not wait for each other: what is left of the peak then.

Ours only. The peak is a closed loop's, so that all of it is answered; the flood comes at three times that rate whatever
becomes of it. Process memory is small, so that it is full early and what grows after that is no copy of a dossier.

Who finds no connection free waits in the ingress, first come, first served. With a queue without end that is the
hardest there is: while it grows, the one whose turn comes is about to give up, so nothing but answering *all*, if
only with a refusal, keeps goodput. The same with a queue of the length that an ingress has is measured beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from loadtests.bench.arrivals import Flood, Report
from loadtests.bench.generators import flooded
from loadtests.bench.load import WrkLoad
from loadtests.bench.resident import EVERY_SECONDS, MEGABYTE, growth, level
from loadtests.bench.rig import CaseOutcome, Judged, Rig, at_least
from loadtests.bench.servers import Contestant, ours
from loadtests.bench.usage import Meter, Usage
from loadtests.system.samplers import is_alive, memory_of, sampled

TITLE = (
    "three times the load that saturates, for three times as long as other runs, 2,000 connections, Redis empty; who "
    "finds none free waits"
)

TIMES = 3
CONNECTIONS = 2000
QUEUE = 1024
"""Envoy's default for requests that wait for a connection."""
SMALL_MEMORY = {"HOSO24_MEMORY_BYTES": str(48 << 20)}
"""Full in the first third of a flood of thirty seconds. Not less: a copy that has to go within seconds of its load
leaves its version behind as a floor, for minutes, and the two hundred thousand there may be of those would fill up all
the while."""
GOODPUT = 0.85
GROWTH = 0.05


@dataclass(frozen=True)
class Flooded:
    """What a flood has done: to those who came, to the process, to its memory in bytes, second by second."""

    report: Report
    alive: bool
    looks: Sequence[int]
    usage: Usage


def seconds(rig: Rig) -> float:
    return rig.repeats * (rig.seconds + 8) + 2 * (TIMES * rig.seconds + 12)


def measure(rig: Rig) -> CaseOutcome:
    server = ours(rig.system, **SMALL_MEMORY)
    warm_up = rig.warming(WrkLoad("once", rig.spare, connections=64, seconds=rig.seconds))
    (peak,) = rig.side_by_side(
        "overload",
        [server],
        WrkLoad("random", range(rig.dossiers), connections=64, seconds=rig.seconds),
        warm_up=warm_up,
        checked=rig.spare,
        before=rig.system.empty_redis,
    ).values()
    endless = _flood(rig, server, warm_up, TIMES * peak.rate, queue=None)
    short = _flood(rig, server, warm_up, TIMES * peak.rate, queue=QUEUE)
    judged = judge(peak.rate, endless, short)
    return CaseOutcome(
        [peak], judged, broken=endless.report.broken + short.report.broken, usages=[endless.usage, short.usage]
    )


def _flood(rig: Rig, server: Contestant, warm_up: WrkLoad, rate: float, queue: int | None) -> Flooded:
    rig.system.empty_redis()
    with server.start() as running:
        rig.put(running, warm_up)
        rig.patience.wait_for_quiet((rig.system.pid, running.pid))
        flood = Flood([running.port], 0, rig.dossiers, rate, TIMES * rig.seconds, CONNECTIONS, queue)
        meter = Meter((rig.system.pid, running.pid))
        process = psutil.Process(running.pid)
        with flooded(flood, rig.system.folder) as reported, sampled(memory_of(process), EVERY_SECONDS) as looks:
            report = reported()
        done = Flooded(report, is_alive(process), looks, meter.read())
    waiting = "without end" if queue is None else f"of {queue:,}"
    rig.say(
        f"overload, a queue {waiting}: of {rate:,.0f}/s that came {report.goodput:,.0f}/s were answered in time; "
        f"{became(report)}; its core {done.usage.server_core:.0%} busy, the generator {report.busy:.0%} of the "
        f"other and at most {report.lag:.0f} ms late; others took {done.usage.strangers:.0%} of a core"
    )
    return done


def judge(peak: float, endless: Flooded, short: Flooded) -> list[Judged]:
    """What the floods mean: beside the peak, for the process, and for its memory."""
    share, alive = endless.report.goodput / peak, endless.alive and short.alive
    looks = endless.looks
    grown = growth(looks)
    levels = ", ".join(f"{level(looks, part) / MEGABYTE:.0f}" for part in (1 / 3, 1 / 2, 1))
    return [
        at_least("overload", f"answered within 2.5 s at {TIMES} × the peak ÷ the peak", share, GOODPUT),
        Judged("overload", "servers that ended", str(2 - endless.alive - short.alive), "none", alive),
        Judged(
            "overload",
            f"resident memory, growth in the second half; MB after a third, a half, all: {levels}",
            f"{grown:+.1%}",
            f"below {GROWTH:.0%}",
            grown < GROWTH,
        ),
        *_told(endless.report, "a queue without end"),
        at_least(
            "overload",
            f"the same with a queue of at most {QUEUE:,}: answered within 2.5 s ÷ the peak",
            short.report.goodput / peak,
        ),
        *_told(short.report, f"a queue of {QUEUE:,}"),
    ]


def _told(report: Report, queue: str) -> list[Judged]:
    return [
        Judged("overload", f"what became of {report.arrivals:,} who came, {queue}", became(report)),
        Judged(
            "overload",
            f"median and p99 of the answers in time, from the arrival on, {queue}",
            f"{report.median:,.0f} ms, {report.p99:,.0f} ms",
        ),
    ]


def became(report: Report) -> str:
    """What became of those who came, in one line."""
    refused = "".join(f", {count:,} refused ({status})" for status, count in report.refused.items() if count)
    turned_away = f", {report.turned_away:,} turned away by the queue" if report.turned_away else ""
    return f"{report.good:,} answered{refused}{turned_away}, {report.given_up:,} gave up, {report.broken:,} broken"
