"""What it costs to be seen: ours with metrics, log and traces, beside ours without any of them.

Without any is nothing that can be set: the counting is cut out of the lookup as it starts, which is the bench's doing
alone. The traces go to a collector in this process, on the other core, that throws them away.
"""

from dataclasses import replace

from loadtests.bench.collector import collecting
from loadtests.bench.load import WrkLoad
from loadtests.bench.rig import CaseOutcome, Judged, Rig, Series, at_least
from loadtests.bench.servers import UNCOUNTED, ours
from loadtests.system.processes import CannotMeasure

TITLE = "one code, 64 connections; ours unseen, with metrics and log, and with traces of none and of 1 %"

UNSEEN, UNTRACED, NONE, SOME = (
    "ours, unseen",
    "ours, metrics and log",
    "ours, and traces of none",
    "ours, and traces of 1 %",
)
GOAL = 0.9


def seconds(rig: Rig) -> float:
    return rig.repeats * 4 * (rig.seconds + 6)


def measure(rig: Rig) -> CaseOutcome:
    hot = rig.spare[:1]
    load = WrkLoad("constant", hot, connections=64, seconds=rig.seconds)
    with collecting() as collector:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        contestants = [
            replace(ours(rig.system, program=UNCOUNTED, HOSO24_ACCESS_LOG_SHARE="0"), name=UNSEEN),
            replace(ours(rig.system), name=UNTRACED),
            replace(ours(rig.system, **traced, OTEL_TRACES_SAMPLER_ARG="0"), name=NONE),
            replace(ours(rig.system, **traced, OTEL_TRACES_SAMPLER_ARG="0.01"), name=SOME),
        ]
        series = rig.side_by_side("observability", contestants, load, warm_up=rig.warming(load), checked=hot)
        if not collector.taken:
            raise CannotMeasure("No trace has left the lookup that samples one in a hundred.")
    return CaseOutcome(list(series.values()), judge(series))


def judge(series: dict[str, Series]) -> list[Judged]:
    """What is left of the unseen one's rate; the goal is for the whole, with traces of none and of some."""
    goals = {UNTRACED: None, NONE: GOAL, SOME: GOAL}
    return [
        at_least("observability", f"{name} ÷ {UNSEEN}", series[name].rate / series[UNSEEN].rate, goal)
        for name, goal in goals.items()
    ]
