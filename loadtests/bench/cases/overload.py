"""Three times as many as can be answered, who do not wait for each other: what is left of the peak then.

Ours only. The peak is a closed loop's, so that all of it is answered; the flood comes at three times that rate whatever
becomes of it. Process memory is small, so that it is full early and what grows after that is no copy of a dossier.
"""

from loadtests.bench.arrivals import Flood, Report
from loadtests.bench.generators import flooded
from loadtests.bench.load import Load
from loadtests.bench.resident import MEGABYTE, Resident, growth, level
from loadtests.bench.rig import Judged, Outcome, Rig
from loadtests.bench.servers import Server, ours
from loadtests.bench.usage import Meter, Usage

TITLE = "three times the load that saturates, for three times as long as other runs, 2,000 connections, Redis empty"

TIMES = 3
CONNECTIONS = 2000
SMALL_MEMORY = {"HOSO24_MEMORY_BYTES": str(16 << 20)}
GOODPUT = 0.85
GROWTH = 0.05


def seconds(rig: Rig) -> float:
    return rig.repeats * (rig.seconds + 8) + TIMES * rig.seconds + 12


def measure(rig: Rig) -> Outcome:
    server = ours(rig.house, **SMALL_MEMORY)
    warm_up = rig.warming(Load("once", rig.spare, connections=64, seconds=rig.seconds))
    (peak,) = rig.side_by_side(
        "overload",
        [server],
        Load("random", range(rig.dossiers), connections=64, seconds=rig.seconds),
        warm_up=warm_up,
        checked=rig.spare,
        before=rig.house.empty_redis,
    ).values()
    rig.house.empty_redis()
    with server.start() as running:
        rig.put(running, warm_up)
        rig.patience.wait_for_quiet((rig.house.pid, running.pid))
        report, resident, usage = _flood(rig, running, TIMES * peak.rate)
        judged = judge(peak.rate, report, resident.looks, alive=resident.alive)
    rig.say(f"overload: {judged[0].figure} of the peak; {judged[-1].figure}; {usage}")
    return Outcome([peak], judged, broken=report.broken, usages=[usage])


def _flood(rig: Rig, server: Server, rate: float) -> tuple[Report, Resident, Usage]:
    flood = Flood([server.port], 0, rig.dossiers, rate, TIMES * rig.seconds, CONNECTIONS)
    meter = Meter((rig.house.pid, server.pid))
    with flooded(flood, rig.house.folder) as reported, Resident(server.pid) as resident:
        report = reported()
    return report, resident, meter.read()  # only now that the generator has ended, its time is known to be ours


def judge(peak: float, report: Report, looks: list[int], *, alive: bool) -> list[Judged]:
    """What the flood means: beside the peak, for the process, and for its memory in bytes."""
    share = report.goodput / peak
    grown = growth(looks)
    levels = ", ".join(f"{level(looks, part) / MEGABYTE:.0f}" for part in (1 / 3, 1 / 2, 1))
    refused = ", ".join(f"{count:,} × {status}" for status, count in report.refused.items() if count)
    return [
        Judged(
            "overload",
            f"answered within 2.5 s at {TIMES} times the peak ÷ the peak",
            f"{share:.2f}",
            f"at least {GOODPUT:g}",
            share >= GOODPUT,
        ),
        Judged("overload", "processes that ended", "0" if alive else "1", "none", alive),
        Judged(
            "overload",
            f"resident memory, growth in the second half; MB after a third, a half, all: {levels}",
            f"{grown:+.1%}",
            f"below {GROWTH:.0%}",
            grown < GROWTH,
        ),
        Judged(
            "overload",
            "p99 of what was answered, from the arrival on; median",
            f"{report.p99:,.0f} ms; {report.median:,.0f} ms",
        ),
        Judged(
            "overload",
            f"of {report.arrivals:,} arrivals: answered; refused; given up; broken",
            f"{report.good:,}; {refused or '0'}; {report.given_up:,}; {report.broken:,}",
        ),
    ]
