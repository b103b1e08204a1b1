"""One dossier that all ask for: what an answer costs when nothing has to be looked up."""

from loadtests.bench.load import WrkLoad
from loadtests.bench.peers.answer import entry
from loadtests.bench.rig import CaseOutcome, Rig, ratio
from loadtests.bench.servers import nginx, ours, peer
from loadtests.system.computed_dossiers import code

TITLE = "one code, 64 connections; peers with a constant, or with a warm Redis"

BARE, CONSTANT, CACHE_ASIDE = "bare aiohttp", "nginx, a constant", "FastAPI cache-aside"


def seconds(rig: Rig) -> float:
    return rig.repeats * 4 * (rig.seconds + 6)


def measure(rig: Rig) -> CaseOutcome:
    # One of the spare dossiers, and the only one asked for: the constants are right for no other.
    hot = rig.spare[:1]
    answer = rig.system.expected(code(hot.start))
    contestants = [
        ours(rig.system),
        peer(rig.system, BARE, "bare_aiohttp", answer),
        nginx(rig.system, answer),
        peer(rig.system, CACHE_ASIDE, "fastapi_cache_aside"),
    ]
    rig.system.put_answers([code(hot.start)], entry)
    load = WrkLoad("constant", hot, connections=64, seconds=rig.seconds)
    series = rig.side_by_side("hot", contestants, load, warm_up=rig.warming(load), checked=hot)
    return CaseOutcome(
        list(series.values()),
        [ratio(series, BARE, 2.0), ratio(series, CONSTANT, 0.55), ratio(series, CACHE_ASIDE, 20)],
    )
