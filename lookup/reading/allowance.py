"""An allowance, and how its headers tell a client of it (draft-ietf-httpapi-ratelimit-headers-11).

    RateLimit-Policy: "missing";q=100;w=50
    RateLimit: "missing";r=97;t=2

A burst and a rate are the policy of `q` units in any `w` seconds, the time in which the burst comes back: a network
that never has more than that is never refused. `r` units are left for the next `t` seconds; at `r=0` there are none
before `t`, which is then Retry-After. `r` is what this process knows: the others tell it what they counted ten times a
second, and without Redis not at all (lookup/reading/shared_limits.py), so in truth it may be lower.
"""

import math
from collections.abc import Iterable, Mapping

SHARED_FROM = 1 / 16
"""Share of an allowance from which a name is told to other processes. Nearly no citizen's name ever is."""
POLICY, LEFT = "RateLimit-Policy", "RateLimit"
_EVEN = 1e-6


class Allowance:
    """So many at once (`burst`), and so many an hour after that. `word` is its name in the metrics and the headers.

    `share`: for a prefix, how often as much as all others a network may have been shown before this allowance counts.
    """

    __slots__ = ("burst", "heavy", "interval", "share", "tolerance", "word")

    def __init__(self, word: str, burst: int, an_hour: float, share: float = 0.0) -> None:
        self.word = word
        self.burst = burst
        self.interval = 3600.0 / an_hour
        self.tolerance = burst * self.interval + _EVEN
        self.heavy = self.tolerance * SHARED_FROM
        self.share = share

    @property
    def policy(self) -> str:
        """Its item of RateLimit-Policy."""
        return f'"{self.word}";q={self.burst};w={math.ceil(self.burst * self.interval)}'

    def left(self, ahead: float) -> str:
        """Its item of RateLimit, with its due time `ahead` seconds from now."""
        units = max(0, int((self.tolerance - ahead) / self.interval))
        return f'"{self.word}";r={units};t={max(1, math.ceil(ahead))}'

    def used_up(self, seconds: int) -> dict[str, str]:
        """The headers of a refusal: nothing is left, for so many seconds."""
        return {POLICY: self.policy, LEFT: f'"{self.word}";r=0;t={seconds}'}


def rate_headers(standing: Iterable[tuple[Allowance, float]]) -> Mapping[str, str]:
    """The headers for these allowances, each with how far its due time is ahead of now; none for no allowance."""
    told = list(standing)
    if not told:
        return {}
    return {
        POLICY: ", ".join(allowance.policy for allowance, _ in told),
        LEFT: ", ".join(allowance.left(ahead) for allowance, ahead in told),
    }
