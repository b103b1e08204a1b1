"""Two hundred changes a second under load: how soon two lookup processes answer with them.

Ours only. The lookups have all that is asked for in memory, and every code is asked of both just before it is changed:
each change has two copies to be rid of. It is written past the intake (prober.py says why) and delivered by the
system's relay. The load does not wait for answers, and is a third of what one lookup answered on the whole core.
"""

from dataclasses import asdict

from loadtests.bench.arrivals import Flood, Report
from loadtests.bench.generators import flooded, running
from loadtests.bench.load import WrkLoad
from loadtests.bench.probe import POSTGRES, ChangesSeen, Probe
from loadtests.bench.rig import CaseOutcome, Judged, Rig, Series
from loadtests.bench.servers import OURS, BenchServer, ours
from loadtests.bench.usage import Meter, Usage

TITLE = "200 changes a second under a third of the peak's load: from the commit to the answers of two lookups"

CONNECTIONS = 32
SHARE = 1 / 3
CHANGES = 200.0
TOLERANCE = 0.05
P99_MILLISECONDS = 100.0
TURNS = 4
"""Every fourth dossier is in processing, and may be moved from there to there as often as one likes."""
MARGIN_SECONDS = 3.0
"""How much longer there is load than there are changes: the prober has to start."""


def seconds(rig: Rig) -> float:
    return 2 * len(rig.many) / 6000 + 3 * rig.seconds + 20


def measure(rig: Rig) -> CaseOutcome:
    rig.system.empty_redis()
    with ours(rig.system).start() as one, ours(rig.system).start() as two:
        rig.fill(one)
        rig.fill(two)
        rig.patience.wait_for_quiet((rig.system.pid, one.pid, two.pid))
        peak = rig.measure(one, WrkLoad("random", rig.many, CONNECTIONS, rig.seconds))
        report, seen, usage = _probe(rig, (one, two), peak.figures.rate * SHARE)
    judged = judge(seen, report)
    rig.say(
        f"visible: {'; '.join(f'{each.what}: {each.figure}' for each in judged)}; the lookups' core "
        f"{usage.server_core:.0%} busy, the other {usage.other_core:.0%}; others took {usage.strangers:.0%} of a core"
    )
    series = Series("visible", f"{OURS}, without changes", CONNECTIONS, [peak])
    return CaseOutcome([series], judged, broken=report.broken, usages=[usage])


def _probe(rig: Rig, servers: tuple[BenchServer, BenchServer], rate: float) -> tuple[Report, ChangesSeen, Usage]:
    ports = [server.port for server in servers]
    lasting = 2 * rig.seconds
    first = rig.spare.start + -rig.spare.start % TURNS
    probe = Probe(ports, first, rig.spare.stop - first, TURNS, CHANGES, lasting)
    flood = Flood(ports, rig.many.start, len(rig.many), rate, lasting + MARGIN_SECONDS, CONNECTIONS)
    meter = Meter((rig.system.pid, *(server.pid for server in servers)))
    with flooded(flood, rig.system.folder) as reported:
        environ = {POSTGRES: rig.system.postgres["writer"]}
        lasting += probe.patience
        with running("prober", asdict(probe), rig.system.folder, seconds=lasting, environ=environ) as seen:
            result = ChangesSeen(**seen())
        report = reported()
    return report, result, meter.read()  # the generators have ended: their time is known to be ours


def judge(seen: ChangesSeen, report: Report) -> list[Judged]:
    """What was seen, and what load there was meanwhile."""
    judged = []
    for n, took in enumerate(seen.took):
        median, p99, longest = (seen.milliseconds(n, share) for share in (0.5, 0.99, 1.0))
        judged.append(
            Judged(
                "visible",
                f"commit to answer, p99, lookup {n + 1}; median {median:.0f} ms, longest {longest:,.0f} ms",
                f"{p99:.0f} ms",
                f"below {P99_MILLISECONDS:.0f} ms",
                bool(took) and p99 < P99_MILLISECONDS,
            )
        )
    missed = sum(seen.missed)
    return [
        *judged,
        Judged("visible", "changes not seen within 5 s", f"{missed:,}", "none", not missed and bool(seen.made)),
        Judged(
            "visible",
            "changes made a second",
            f"{seen.rate:.0f}",
            f"{CHANGES:.0f} within {TOLERANCE:.0%}",
            abs(seen.rate / CHANGES - 1) <= TOLERANCE,
        ),
        Judged(
            "visible",
            f"lookups a second meanwhile, of {report.arrivals / report.seconds:,.0f} that came; their median and p99",
            f"{report.goodput:,.0f}; {report.median:.1f} ms, {report.p99:.1f} ms",
        ),
    ]
