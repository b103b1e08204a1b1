"""Two walkers, one after the other: each counts up the numbers of one agency's day.

The first has one IPv4 address, the second an IPv6 /48 with a new /64 for every question. Citizens go on meanwhile; they
ask for other days: of a day that many ask for, a network may be shown a tenth of what all others are.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from loadtests.codes import address
from loadtests.gameday.day import Day, Fault
from loadtests.gameday.promises import none_failed
from loadtests.system.http_client import Client, NoAnswer, request
from loadtests.verdict import Row

HANDS = 20
"""Questions a walker has under way."""
SECONDS = 75.0
"""How long each walks: the alert's shortened wait, and half its shortened window."""
PAUSE = 0.05
"""Seconds a hand waits after a refusal, so that the walkers do not measure this machine."""
SHOWN_AT_MOST = 450
"""Dossiers of a day that three processes show one network at the most: three times what one does (150)."""
REFUSED_SHARE = 0.01
"""Of citizens' lookups that a walker beside them may cost a 429."""
DOSSIERS = 2_000
"""Of that agency and day."""
IPV4, IPV6 = "100.64.7.7", "2001:db8:7777:{:x}::1"
"""Shared address space (RFC 6598) and a /48 of the documentation's prefix (RFC 3849); citizens use /48s as well."""


@dataclass
class _Walk:
    """What one walker got."""

    shown: set[str] = field(default_factory=set)
    refused: int = 0


async def _hand(day: Day, codes: Iterator[str], client_address: Callable[[], str], walk: _Walk) -> None:
    """Ask for the next code, again and again, until cancelled."""
    client = Client(day.stage.front.lookup)
    try:
        while True:
            code = next(codes)
            path = f"/api/v1/dossiers/{address(code)}"
            try:
                answer = await client.ask_any(request("GET", path, {"X-Forwarded-For": client_address()}))
            except (NoAnswer, OSError):
                continue
            if answer.status == 200:
                walk.shown.add(code)
            elif answer.status == 429:
                walk.refused += 1
                await asyncio.sleep(PAUSE)
    finally:
        client.hang_up()


async def _walk(day: Day, codes: list[str], client_address: Callable[[], str]) -> _Walk:
    """What one walker got in SECONDS, from the first code to the last and round again."""
    walk, counted_up = _Walk(), itertools.cycle(codes)
    hands = [asyncio.create_task(_hand(day, counted_up, client_address, walk)) for _ in range(HANDS)]
    await asyncio.sleep(SECONDS)  # this is the walk
    for hand in hands:
        hand.cancel()
    for result in await asyncio.gather(*hands, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    return walk


async def _walked(day: Day) -> list[Row]:
    day.say(f"a day of {DOSSIERS:,} dossiers is imported")
    codes = await day.crowd.import_a_day(DOSSIERS)
    began, numbers = time.monotonic(), itertools.count(1)
    walkers = {"one IPv4 address": lambda: IPV4, "an IPv6 /48": lambda: IPV6.format(next(numbers) % 65_536)}
    rows = []
    for number, (name, client_address) in enumerate(walkers.items()):
        day.say(f"{name} walks a day of {len(codes)} dossiers for {SECONDS:g} s")
        walk = await _walk(day, codes, client_address)
        shown = len(walk.shown)
        day.figure("walked", f"shown_{number}", shown)
        rows.append(
            Row(
                f"shown to {name}",
                f"{shown} of {len(codes):,} dossiers of a day, {walk.refused:,} times refused",
                f"at most {SHOWN_AT_MOST}, and then refusals",
                kept=0 < shown <= SHOWN_AT_MOST and walk.refused > 0,
            )
        )
    citizens = await day.judged(began)
    refused, asked = citizens.count("limited"), citizens.total
    return [
        *rows,
        none_failed(citizens),
        Row(
            "citizens beside them",
            f"{refused} of {asked:,} refused by rate",
            f"at most {REFUSED_SHARE:.0%}",
            kept=asked > 0 and refused <= REFUSED_SHARE * asked,
        ),
    ]


WALKED = Fault(
    "walked",
    "two networks read off an agency's day",
    f"each is shown at most {SHOWN_AT_MOST} dossiers, then refused; of citizens at most {REFUSED_SHARE:.0%} are",
    _walked,
)
