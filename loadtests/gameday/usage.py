"""What processes hold on to: descriptors, connections, tasks and memory, as their own metrics say."""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from loadtests.gameday.day import Day
from loadtests.system.replicas import Replica


@dataclass(frozen=True)
class HeldResources:
    """One process at one moment. `memory` in bytes, the copies of dossiers in it left out: those are meant to be there.

    One that does not answer has nothing at all.
    """

    descriptors: int
    connections: int
    tasks: int
    memory: int

    COUNTED: ClassVar[tuple[str, ...]] = ("descriptors", "connections", "tasks")


async def usage(day: Day) -> dict[str, HeldResources]:
    """Of every process, by name."""
    replicas = day.replicas
    found = await asyncio.gather(*(_of(day, replica) for replica in replicas))
    return {replica.name: each for replica, each in zip(replicas, found, strict=True)}


async def _of(day: Day, replica: Replica) -> HeldResources:
    totals: dict[str, float] = {}
    for name, _, value in await day.metrics(replica):
        totals[name] = totals.get(name, 0.0) + value
    return HeldResources(
        descriptors=int(totals.get("process_open_fds", 0)),
        connections=int(totals.get("hoso24_connections", 0)),
        tasks=int(totals.get("hoso24_tasks", 0)),
        memory=int(totals.get("process_resident_memory_bytes", 0) - totals.get("lookup_memory_bytes", 0)),
    )


def grown(before: dict[str, HeldResources], after: dict[str, HeldResources], allowance: int) -> list[str]:
    """What has grown by more than the allowance, or belongs to a process that is another one now; one sentence each."""
    found = [f"{name} is not there any more" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        for what in HeldResources.COUNTED:
            was, now = getattr(before[name], what), getattr(after[name], what)
            if now == 0 and what == "descriptors":
                found.append(f"{name} does not answer")
            elif now > was + allowance:
                found.append(f"{name}: {now} {what}, {was} before")
    return sorted(found)
