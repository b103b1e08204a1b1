"""A hundred thousand dossiers that Redis holds, asked for at random: what a read of Redis costs.

Our process memory is off, or it would answer most of them.
"""

from loadtests.bench.load import WrkLoad
from loadtests.bench.peers.answer import entry
from loadtests.bench.rig import CaseOutcome, Judged, Rig, Series, ratio
from loadtests.bench.servers import ours, peer
from loadtests.system.computed_dossiers import code
from loadtests.system.processes import CannotMeasure

TITLE = "100,000 codes at random, Redis warm, process memory off"

GET, CACHE_ASIDE = "aiohttp + redis GET", "FastAPI cache-aside"
CONNECTIONS = (64, 256)
NO_MEMORY = {"HOSO24_MEMORY_BYTES": "0"}


def seconds(rig: Rig) -> float:
    return 30 + len(CONNECTIONS) * rig.repeats * 3 * (rig.seconds + 6)


def measure(rig: Rig) -> CaseOutcome:
    _warm(rig)
    contestants = [
        ours(rig.system, **NO_MEMORY),
        peer(rig.system, GET, "aiohttp_redis"),
        peer(rig.system, CACHE_ASIDE, "fastapi_cache_aside"),
    ]
    all_series: list[Series] = []
    judged: list[Judged] = []
    for connections in CONNECTIONS:
        load = WrkLoad("random", rig.many, connections, rig.seconds)
        series = rig.side_by_side("warm", contestants, load, warm_up=rig.warming(load), checked=rig.many)
        all_series += series.values()
        # The goals are for 64; 256 shows what becomes of the ratios when more people come.
        few = connections == CONNECTIONS[0]
        judged += [ratio(series, GET, 2.0 if few else None), ratio(series, CACHE_ASIDE, 5 if few else None)]
    return CaseOutcome(all_series, judged)


def _warm(rig: Rig) -> None:
    """Every code asked for once through ours, and the peers' answers written beside them."""
    rig.say("Filling Redis through our lookup, and with the peers' answers …")
    rig.system.empty_redis()
    evicted = rig.system.evicted()
    with ours(rig.system, **NO_MEMORY).start() as server:
        rig.fill(server)
    rig.system.put_answers([code(n) for n in rig.many], entry)
    if rig.system.evicted() > evicted:
        raise CannotMeasure("Redis is not warm: it has not the memory to hold all of what was put into it.")
