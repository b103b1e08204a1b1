"""Judges alerts: each fault makes those fire that `faults/alerts.toml` names, within their time, and no others; and all
of them end when the system is well again.
"""

import asyncio
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from loadtests.gameday.day import Timed
from loadtests.system.http_client import NoAnswer
from loadtests.system.prometheus import Firing, Prometheus

TABLE = Path(__file__).parent / "faults" / "alerts.toml"
ENDED_SECONDS = 60.0
"""How long an alert may still fire when all is well again: its windows are 15 to 45 s."""
POLL_SECONDS = 0.25


class Due(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one fault does to alerts."""

    fires: dict[str, float] = {}
    """Alert → the seconds from the fault's beginning within which it has to fire."""
    may: dict[str, str] = {}
    """Alert that may fire as well → why it does not always."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `faults/alerts.toml`."""

    fault: dict[str, Due]
    left_out: dict[str, str]
    """Alert that is not judged here → why not."""


def table(path: Path = TABLE) -> Table:
    """What faults do to alerts. Raises msgspec.ValidationError for an invalid file."""
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Table)


async def judged(prometheus: Prometheus, fault: str, began: float) -> list[Timed]:
    """The promises about alerts, once none fires any more; the system has to be well by now."""
    well, expected = time.monotonic(), table()
    try:
        left = await _ended(prometheus, expected.left_out.keys(), well + ENDED_SECONDS)
        fired = await prometheus.fired(began, time.monotonic())
    except NoAnswer as none:
        return [Timed("alerts", f"Prometheus: {none}", "an answer", kept=False)]
    ended = f"{', '.join(sorted(left))} still fire" if left else f"all, {time.monotonic() - well:.0f} s later"
    return [
        compared(
            expected.fault.get(fault, Due()), [each for each in fired if each.name not in expected.left_out], began
        ),
        Timed("alerts end", ended, f"all within {ENDED_SECONDS:g} s of all being well", kept=not left),
    ]


def compared(due: Due, fired: Sequence[Firing], began: float) -> Timed:
    """Whether those that fired are those that were due."""
    after = {each.name: each.since - began for each in fired}
    missing = [name for name, within in due.fires.items() if after.get(name, float("inf")) > within]
    others = after.keys() - due.fires.keys() - due.may.keys()
    wanted = ", ".join(f"{name} within {within:g} s" for name, within in due.fires.items()) or "none"
    also = f"; perhaps {', '.join(due.may)}" if due.may else ""
    return Timed("alerts", _told(after) or "none", f"{wanted}{also}; no other", kept=not missing and not others)


def _told(after: Mapping[str, float]) -> str:
    return ", ".join(f"{name} after {seconds:.0f} s" for name, seconds in after.items())


async def _ended(prometheus: Prometheus, left_out: Collection[str], deadline: float) -> set[str]:
    """The alerts that fire at the deadline; none as soon as there is none."""
    while left := await prometheus.firing() - set(left_out):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    return left
