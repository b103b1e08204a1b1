"""The kinds of day a service can have: who comes, how many of them when, for how long, and what is judged besides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadtests import curves
from loadtests.curves import Curve
from loadtests.enumeration import Enumerator, Neighbour
from loadtests.partners import BusinessSystem, Follower
from loadtests.results_day import Announcer, Expectant
from loadtests.storm import LinkFollower
from loadtests.verdict import ATTACKERS, NEIGHBOURS_MISSES, NEIGHBOURS_WALKED, TOLD, Counts, Row, resisted, told, warmed
from loadtests.visitors import Citizen, Office, Portal, SlowPhone, Visitor

Visitors = Mapping[type[Visitor], int]
Judge = Callable[[Counts], list[Row]]


def _nothing_more(_: Counts) -> list[Row]:
    return []


@dataclass(frozen=True)
class Profile:
    """A kind of day. `users`, `seconds` and `dossiers` are what a run has that is not told otherwise."""

    name: str
    title: str
    visitors: Visitors
    """Who comes, in which proportion."""
    users: int
    seconds: int
    curve: Curve = curves.steady
    dossiers: int = 200
    """How many are handed in before it begins."""
    spawn_rate: float = 30.0
    """How many come or go in a second at the most."""
    nine_at: float | None = None
    """The part of the run after which it is nine o'clock; None where that means nothing."""
    cold: bool = False
    """Whether the service is made cold before it begins."""
    uncounted: frozenset[str] = field(default=frozenset())
    """Those whose answers count for no SLI: the SLIs are the others'."""
    judge: Judge = _nothing_more


ON_ANY_DAY: Visitors = {Citizen: 6, SlowPhone: 1, Portal: 1, Office: 2}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("steady", "the same all the time", ON_ANY_DAY, users=60, seconds=30),
        Profile(
            "ordinary-day",
            "twenty-four hours of an ordinary day, in minutes",
            ON_ANY_DAY,
            users=100,
            seconds=240,
            curve=curves.ordinary_day,
            dossiers=500,
        ),
        Profile(
            "results-day",
            "all at nine o'clock, each for a dossier that changes then",
            {Expectant: 14, SlowPhone: 1, Citizen: 2, Portal: 1, Announcer: 1, Office: 1},
            users=200,
            seconds=80,
            curve=curves.results_day,
            dossiers=300,
            spawn_rate=100,
            nine_at=curves.NINE,
        ),
        Profile(
            "deep-link-storm",
            "a portal has put links on its first page",
            {LinkFollower: 14, Citizen: 1, SlowPhone: 1, Portal: 2, Office: 1},
            users=200,
            seconds=60,
            curve=curves.storm,
            dossiers=500,
            spawn_rate=100,
        ),
        Profile(
            "enumeration",
            "a client counts codes up, beside citizens, some of whom have the same address",
            {Enumerator: 1, Neighbour: 3, Citizen: 4, SlowPhone: 1, Office: 2},
            users=200,
            seconds=60,
            dossiers=500,
            uncounted=frozenset({ATTACKERS, NEIGHBOURS_MISSES, NEIGHBOURS_WALKED}),
            judge=resisted,
        ),
        Profile(
            "cold-start",
            "all are there, and neither memory nor Redis holds anything",
            ON_ANY_DAY,
            users=100,
            seconds=120,
            dossiers=500,
            spawn_rate=100,
            cold=True,
            judge=warmed,
        ),
        Profile(
            "portal",
            "portals look many up at once, ask again by ETag, and follow the feed",
            {Portal: 6, Follower: 1, Office: 3},
            users=40,
            seconds=60,
            uncounted=frozenset({TOLD}),
            judge=told,
        ),
        Profile(
            "business-system",
            "a business system pushes body after body, beside all others",
            {BusinessSystem: 1, Follower: 1, Citizen: 4, Portal: 1, Office: 2},
            users=40,
            seconds=60,
            uncounted=frozenset({TOLD}),
            judge=told,
        ),
    )
}
