"""A day's load in 24 minutes, a minute for each hour: what processes hold on to must not grow with it.

The shape is that of an office day, made up: nearly nothing at night, a peak at nine, less at noon, a second one at two.
Clocks are normal: what the service does by the minute it does by the minute.
"""

import asyncio
from collections.abc import Mapping

from loadtests.gameday.day import Day, Fault
from loadtests.gameday.promises import changes_acknowledged, none_failed, nothing_wrong
from loadtests.gameday.usage import HeldResources, grown, usage
from loadtests.verdict import Row

HOUR_SECONDS = 60.0
PEAK = 300.0
"""Lookups a second at nine o'clock."""
CHANGES = 12.0
"""Dossiers taken in and moved a second at nine o'clock."""
HOURS = (
    *(0.08, 0.06, 0.05, 0.05, 0.06, 0.10, 0.25, 0.55, 0.90, 1.00, 0.95, 0.70),
    *(0.50, 0.75, 0.95, 0.90, 0.80, 0.55, 0.40, 0.35, 0.30, 0.20, 0.12, 0.06),
)
"""Share of the peak in each hour of the day."""
BEFORE, AFTER = 1, 23
"""Hours at whose end the processes are compared: the same load, and between them the day."""
ALLOWANCE = 12
"""Descriptors, connections and tasks that a process may have more of in the evening."""
GROWTH, GROWN_BYTES = 1.25, 24 * 2**20
"""How much more memory than in the night before it may have in the evening, copies left out: a share and so much."""


async def _live_through_a_day(day: Day) -> list[Row]:
    usual, usual_changes = day.crowd.pace.rate, day.crowd.desk_pace.rate
    began = asyncio.get_running_loop().time()
    looks: list[dict[str, HeldResources]] = []
    try:
        for hour, share in enumerate(HOURS):
            day.say(f"{hour} o'clock, {PEAK * share:.0f} lookups a second")
            day.crowd.pace.rate, day.crowd.desk_pace.rate = max(1.0, PEAK * share), max(0.5, CHANGES * share)
            await asyncio.sleep(HOUR_SECONDS)
            looks.append(await usage(day))
    finally:
        day.crowd.pace.rate, day.crowd.desk_pace.rate = usual, usual_changes
    seen = await day.judged(began)
    night, evening = looks[BEFORE], looks[AFTER]
    return [
        none_failed(seen),
        nothing_wrong(seen),
        changes_acknowledged(seen),
        *(_flat(what, night, evening) for what in HeldResources.COUNTED),
        _memory(night, evening),
    ]


def _flat(what: str, night: Mapping[str, HeldResources], evening: Mapping[str, HeldResources]) -> Row:
    faults = [fault for fault in grown(dict(night), dict(evening), ALLOWANCE) if what in fault or "not" in fault]
    was, now = (sum(getattr(each, what) for each in look.values()) for look in (night, evening))
    told = f"{was} in all processes at {BEFORE} o'clock, {now} at {AFTER}"
    return Row(what, "; ".join([told, *faults[:3]]), f"at most {ALLOWANCE} more in each process", kept=not faults)


def _memory(night: Mapping[str, HeldResources], evening: Mapping[str, HeldResources]) -> Row:
    told, faults = [], []
    for name, was in sorted(night.items()):
        now = evening.get(name)
        if now is None:
            faults.append(f"{name} is not there any more")
            continue
        told.append(f"{name} {was.memory / 2**20:.0f} → {now.memory / 2**20:.0f}")
        if now.memory > was.memory * GROWTH + GROWN_BYTES:
            faults.append(f"{name} has grown")
    return Row(
        "memory",
        f"MiB without copies: {', '.join(told)}{'; ' if faults else ''}{'; '.join(faults)}",
        f"at most {GROWTH:g} times as much and {GROWN_BYTES // 2**20} MiB",
        kept=bool(told) and not faults,
    )


CURVE = Fault(
    "day-curve",
    "a day's load curve in 24 minutes, clocks normal",
    "memory, descriptors, tasks, connections flat",
    _live_through_a_day,
)
