"""An allowance, and how its headers tell a client of it (draft-ietf-httpapi-ratelimit-headers-11).

    RateLimit-Policy: "missing";q=100;w=50
    RateLimit: "missing";r=97;t=2

A burst and a rate are the policy of `q` units in any `w` seconds, the time in which the burst comes back: a client that
never has more than that is never refused. `r` units are left, and all of them are back after `t` seconds. In a refusal
`r` is too few, and `t` is Retry-After: the time until there are enough. `r` is what this process knows: where several
processes share what they counted, it may be lower in truth.
"""

import math
from collections.abc import Iterable, Mapping

SHARED_FROM = 1 / 16
"""Share of an allowance from which other processes are told of a name. Few names ever use as much."""
POLICY, LEFT = "RateLimit-Policy", "RateLimit"
_EVEN = 1e-6


class Allowance:
    """So many at once (`burst`), and so many an hour after that. `word` is its name in the metrics and the headers.

    `share`: how often as much as all others a name may have had before this allowance counts.
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
    def window(self) -> int:
        """Seconds in which the burst comes back."""
        return math.ceil(self.burst * self.interval - _EVEN)

    @property
    def policy(self) -> str:
        """Its item of RateLimit-Policy."""
        return f'"{self.word}";q={self.burst};w={self.window}'

    def units(self, ahead: float) -> int:
        """The units left, with its due time `ahead` seconds from now."""
        return max(0, int((self.tolerance - ahead) / self.interval))

    def left(self, ahead: float) -> str:
        """Its item of RateLimit, with its due time `ahead` seconds from now."""
        return f'"{self.word}";r={self.units(ahead)};t={max(1, math.ceil(ahead))}'

    def used_up(self, seconds: int, units: int = 0) -> dict[str, str]:
        """The headers of a refusal: no more than so many units are left, for so many seconds."""
        return {POLICY: self.policy, LEFT: f'"{self.word}";r={units};t={seconds}'}


def rate_headers(standing: Iterable[tuple[Allowance, float]]) -> Mapping[str, str]:
    """The headers for these allowances, each with how far its due time is ahead of now; none for no allowance."""
    told = list(standing)
    if not told:
        return {}
    return {
        POLICY: ", ".join(allowance.policy for allowance, _ in told),
        LEFT: ", ".join(allowance.left(ahead) for allowance, ahead in told),
    }
