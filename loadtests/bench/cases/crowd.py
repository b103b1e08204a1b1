"""Two thousand connections, every dossier asked for once, nothing cached: the day on which all look at once.

Ours only. Postgres must not feel how many come, none may be refused, and none may wait much longer than others.
"""

from loadtests.bench.load import WrkLoad
from loadtests.bench.rig import CaseOutcome, Judged, Rig
from loadtests.bench.servers import APPLICATION, ours
from loadtests.system.samplers import queries_of, sampled

TITLE = "2,000 connections, every dossier once, Redis empty"

CONNECTIONS = 2000
QUERIES = 4
LONGEST_SECONDS = 600.0
LOOK_SECONDS = 0.02
P99_OVER_MEDIAN = 10


def seconds(rig: Rig) -> float:
    return rig.repeats * (rig.dossiers / 6000 + 8)


def measure(rig: Rig) -> CaseOutcome:
    load = WrkLoad("once", range(rig.dossiers), CONNECTIONS, LONGEST_SECONDS)
    with sampled(queries_of(APPLICATION, rig.system.postgres["reader"]), LOOK_SECONDS) as in_flight:
        series = rig.side_by_side(
            "crowd",
            [ours(rig.system, HOSO24_PG_READER_QUERIES=str(QUERIES))],
            load,
            warm_up=rig.warming(WrkLoad("once", rig.spare, connections=64, seconds=rig.seconds)),
            checked=rig.spare,
            before=rig.system.empty_redis,
            attempts=1,  # minutes long, and judged by itself: a disturbance can only make it look worse
        )
    (own,) = series.values()
    most = max(in_flight, default=0)
    fewest = min(run.figures.answers for run in own.runs)
    unevenness = own.p99 / own.median
    where = f"{CONNECTIONS:,} connections"
    judged = [
        Judged(
            "crowd",
            f"dossiers answered without an error, {where}, worst run",
            f"{fewest:,}, {own.errors:,} errors",
            f"{rig.dossiers:,}, none",
            fewest == rig.dossiers and not own.errors,
        ),
        Judged(
            "crowd",
            f"queries in flight in Postgres, most of {len(in_flight):,} looks",
            str(most),
            f"at most {QUERIES}",
            0 < most <= QUERIES,  # none at all would only say that nothing was seen
        ),
        Judged(
            "crowd",
            f"p99 ÷ median, {where}",
            f"{unevenness:.1f}",
            f"below {P99_OVER_MEDIAN}",
            unevenness < P99_OVER_MEDIAN,
        ),
    ]
    return CaseOutcome([own], judged)
