"""No fault: the system under its usual load, on which no alert may fire."""

import asyncio
import time

from loadtests.gameday.day import Day, Fault, Skipped
from loadtests.gameday.promises import none_failed
from loadtests.system import prometheus
from loadtests.verdict import Row


async def _watch(day: Day) -> list[Row]:
    if day.judge_alerts is None:
        raise Skipped(prometheus.MISSING)
    day.say(f"nothing is broken for {day.healthy:g} s")
    began = time.monotonic()
    await asyncio.sleep(day.healthy)  # this is the test: for so long nothing happens
    return [none_failed(await day.judged(began))]


HEALTHY = Fault("healthy", "nothing is broken", "no alert fires", _watch, short=True)
