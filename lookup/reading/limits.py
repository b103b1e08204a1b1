"""Limits against clients that read dossiers off, and against guessing: what each network may do, in constant memory.

**Disclosures.** Counted is each distinct dossier whose status is shown without its key, once per asker and code,
wherever the answer comes from: memory, Redis or PostgreSQL; JSON, page or item of a batch. An asker is the address of
the connection with the forwarded header it sent. A client is counted in networks of four sizes (LEVELS), because a
client with an IPv6 /48 has 65,536 times a /64, and each network has two allowances: one for a single prefix (agency and
day), because a client that counts up stays within one and citizens do not, and one for all prefixes. What an asker was
shown before is free, so a reload and a program that polls are never refused.

A results day needs no switch: a network over its allowance of a prefix goes on while it had only a share of what all
others were shown of that prefix (`Allowance.share`).

**Probes.** A code that does not exist, a wrong key, a query to the primary, a rating of the pages: one rate each, by
IPv4 address or IPv6 /48.

Whatever exceeds an allowance is refused at once with 429 (TooManyRequests). A right key and a partner are never refused
and cost nothing.

**Memory.** An allowance is a due time, the generic cell rate algorithm's. Due times stand in two arrays of fixed size,
in one place of each by the name's hash; the lower of the two counts, both are raised (a count-min sketch with
conservative update). Nothing is ever evicted, so no flood can give an exhausted network its allowance back. Two names
in one place make a count too high, by a few units in 524,288 places.

**Cost.** Each disclosure is charged to the allowances of a /64 and of an address or /48 for one prefix. Of the other
allowances one disclosure in four is charged, four times, until half of one is used: then its whole region, the /24 or
/40, is charged exactly for ten minutes. A pair that was shown before costs one look into a table.

Several processes tell each other through Redis: lookup/reading/shared_limits.py.
"""

import enum
import itertools
import math
import time
from array import array
from collections.abc import Callable, Iterable, Mapping

from lookup import metrics
from lookup.ratings import ALLOWANCE
from ops.errors import Kind, Refusal
from ops.http.allowance import Allowance, rate_headers

SOONEST, LATEST = 10, 3_600
"""Bounds of Retry-After, in seconds."""
PLACES = 19
"""Binary logarithm of the places in each array of due times: 8 MiB for both."""
PAIRS = 20
"""Binary logarithm of the pairs of asker and code that are remembered: 8 MiB."""
MOST_NAMES = 10_000
"""Limit of names that wait to be told to other processes; more are counted here only."""
FARTHEST = 6 * 3_600.0
"""Limit of what other processes, or a forged value in Redis, can say of a name, in seconds ahead. `network_prefix` is
full at two and a half hours."""
SAMPLE = 4
"""Of the allowances that need not be exact one disclosure in four is charged, four times."""
WATCHED = 600.0
"""Seconds for which a region is charged exactly, after one of its networks had used half of an allowance."""
MOST_WATCHED = 10_000
"""Limit of these regions. Of a region that is forgotten, the next four disclosures or so may be charged too late."""
_ALL_CLIENTS = "*"

Asker = tuple[str | None, str]
"""The address of the connection, and the whole forwarded header as it came."""
Name = tuple[bytes | str, str]
"""What has a due time: a network, for a prefix, for all of them or for a rate; or all clients, for a prefix."""


class TooManyRequests(Refusal):
    """This client's network is over one of its allowances."""

    kind = Kind.LIMITED
    code = "too_many_requests"
    title = "There were too many checks from this network. Try again later, or use the access key on the receipt."
    title_vi = (
        "Mạng đang dùng có quá nhiều lượt tra cứu. Vui lòng thử lại sau hoặc dùng mã tra cứu trên giấy tiếp nhận."
    )
    usual_retry_after = SOONEST
    advice = (
        "Wait for the seconds in Retry-After. Checks with the right access key are not counted; read the "
        "same application again with If-None-Match."
    )
    advice_vi = (
        "Chờ số giây ghi ở Retry-After. Lượt tra cứu kèm đúng mã tra cứu không bị tính; xem lại cùng một hồ "
        "sơ thì gửi kèm If-None-Match."
    )
    repeating_helps = True


class Rate(enum.Enum):
    """Rates of probes: the name, the burst, and the events per second after that."""

    MISSING = ("missing", 100, 2.0)
    WRONG_KEY = ("wrong_key", 30, 0.5)
    PRIMARY = ("primary", 50, 5.0)
    RATING = (ALLOWANCE.word, ALLOWANCE.burst, 1 / ALLOWANCE.interval)

    def __init__(self, word: str, burst: int, per_second: float) -> None:
        self.allowance = Allowance(word, burst, per_second * 3600)


HOME = (Allowance("home_prefix", 60, 30), Allowance("home", 300, 150))
SITE = (Allowance("site_prefix", 120, 60), Allowance("site", 600, 300))
NETWORK = (Allowance("network_prefix", 150, 60, share=0.1), Allowance("network", 3_000, 1_800))
REGION = (Allowance("region_prefix", 2_000, 240, share=3.0), Allowance("region", 60_000, 36_000))
SHOWN = Allowance("shown", 1_600, 1_000)
"""What all clients together were shown of a prefix lately: no limit, but what a share is taken of."""

# Bytes of the network, whether for one prefix, allowance: those charged each time, and those by sample.
_Levels = tuple[tuple[int, bool, Allowance], ...]
LEVELS: dict[int, tuple[_Levels, _Levels]] = {
    0: (((0, True, NETWORK[0]),), ((0, False, NETWORK[1]),)),  # a Unix socket whose proxy names no client
    4: (
        ((4, True, NETWORK[0]),),
        ((4, False, NETWORK[1]), (3, True, REGION[0]), (3, False, REGION[1])),
    ),  # IPv4: the address, its /24
    8: (
        ((8, True, HOME[0]), (6, True, NETWORK[0])),
        (
            (8, False, HOME[1]),
            (7, True, SITE[0]),
            (7, False, SITE[1]),
            (6, False, NETWORK[1]),
            (5, True, REGION[0]),
            (5, False, REGION[1]),
        ),
    ),  # IPv6: /64, /56, /48, /40
}
"""By the length of a client."""
_REGION_BYTES = {0: 0, 4: 3, 8: 5}
_NETWORK_BYTES = 6
_Charge = tuple[Name, int, Allowance, int, float, float]
"""A name and its hash, an allowance, units of it, now, and how far ahead of now that puts the due time."""


class Limits:
    """What clients of one process have used of their allowances. Client None, a partner, has none."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._mask = (1 << PLACES) - 1
        self._first = array("d", [0.0]) * (1 << PLACES)
        self._second = array("d", [0.0]) * (1 << PLACES)
        self._pair_mask = (1 << PAIRS) - 1
        self._pairs = array("q", [0]) * (1 << PAIRS)
        self._watched: dict[bytes, float] = {}
        self._spent: dict[Name, float] = {}
        self.disclosed = 0
        """Disclosures charged so far."""

    # -- pairs of asker and code ---------------------------------------------------------------------------------

    def knows(self, pair: int) -> bool:
        """Whether this pair was shown lately. `pair`: hash of the asker and the code."""
        # Four places for each pair: with one, two programs that poll would drive each other out and be charged anew.
        at, pairs = pair & self._pair_mask, self._pairs
        return pairs[at] == pair or pairs[at ^ 1] == pair or pairs[at ^ 2] == pair or pairs[at ^ 3] == pair

    def _remember(self, pair: int) -> None:
        at, pairs = pair & self._pair_mask, self._pairs
        for place in (at, at ^ 1, at ^ 2, at ^ 3):
            if not pairs[place]:
                pairs[place] = pair
                return
        pairs[at ^ (pair >> 40 & 3)] = pair

    # -- disclosures ---------------------------------------------------------------------------------------------

    def disclose(self, pair: int, client: bytes | None, prefix: str) -> TooManyRequests | None:
        """Charge a dossier of this prefix that is about to be shown, and remember the pair; or the refusal.

        For pairs only that `knows` does not know. Every allowance is looked at first, so a refused client spends
        nothing of its neighbours' allowances.
        """
        if client is None:
            self._remember(pair)
            return None
        now = self._now()
        always, sampled = LEVELS[len(client)]
        charges: list[_Charge] = []
        refusal = self._look(always, client, prefix, 1, now, charges)
        region = client[: _REGION_BYTES[len(client)]]
        units = 1 if self._watched.get(region, 0.0) > now else 0 if pair >> 50 & 3 else SAMPLE
        if units and refusal is None:
            wide: list[_Charge] = []
            refusal = self._look(sampled, client, prefix, units, now, wide)
            if refusal is not None or any(ahead > of.tolerance / 2 for _, _, of, _, _, ahead in wide):
                self._watch(region, now)
            charges += wide
        if refusal is not None:
            return refusal
        if units:
            name = _ALL_CLIENTS, prefix
            charges.append((name, hash(name), SHOWN, units, now, self._ahead(name, now) + SHOWN.interval * units))
        self._pay(charges)
        self._remember(pair)
        self.disclosed += 1
        return None

    def is_over(self, pair: int, client: bytes | None, prefix: str) -> TooManyRequests | None:
        """The refusal `disclose` would give, before anything is read for it; None when it would give none."""
        if client is None or self.knows(pair):
            return None
        always, sampled = LEVELS[len(client)]
        now = self._now()
        refusal = self._look(always, client, prefix, 1, now, [])
        if refusal is None and self._watched.get(client[: _REGION_BYTES[len(client)]], 0.0) > now:
            refusal = self._look(sampled, client, prefix, 1, now, [])
        return refusal

    def _look(
        self, levels: _Levels, client: bytes | str, prefix: str, units: int, now: float, charges: list[_Charge]
    ) -> TooManyRequests | None:
        """Add to `charges` what so many units cost on these levels; or the refusal of the first that is over."""
        first, second, mask = self._first, self._second, self._mask
        for size, narrow, allowance in levels:
            name = client[:size], prefix if narrow else ""
            place = hash(name)
            due, other = first[place & mask], second[place >> 24 & mask]
            if other < due:  # noqa: PLR1730 - the built-in function takes three times as long
                due = other
            ahead = allowance.interval * units
            if due > now:
                ahead += due - now
            if ahead > allowance.tolerance and not self._is_share(allowance, prefix, ahead, now):
                return self._refusal(allowance, ahead)
            charges.append((name, place, allowance, units, now, ahead))
        return None

    def _is_share(self, allowance: Allowance, prefix: str, ahead: float, now: float) -> bool:
        """Whether a network over this allowance had no more of the prefix than its share of what others had."""
        own = ahead / allowance.interval
        shown = self._ahead((_ALL_CLIENTS, prefix), now) / SHOWN.interval
        return own <= allowance.share * (shown - own)

    def _watch(self, region: bytes, now: float) -> None:
        """Charge this region's clients exactly: one of its networks has used half of an allowance."""
        if len(self._watched) >= MOST_WATCHED:
            self._watched.clear()
        self._watched[region] = now + WATCHED

    # -- probes --------------------------------------------------------------------------------------------------

    def probed(self, client: bytes | None, rate: Rate) -> TooManyRequests | None:
        """Charge a miss, a wrong key or a query to the primary; the refusal when its rate is exceeded."""
        if client is None:
            return None
        now, allowance = self._now(), rate.allowance
        name = (client[:_NETWORK_BYTES], allowance.word)
        ahead = self._ahead(name, now) + allowance.interval
        if ahead > allowance.tolerance:
            return self._refusal(allowance, ahead)
        self._pay([(name, hash(name), allowance, 1, now, ahead)])
        return None

    # -- what clients are told ------------------------------------------------------------------------------------

    def headers(self, client: bytes | None, *rates: Rate, dossiers: bool = False) -> Mapping[str, str]:
        """The RateLimit headers of what this client has used of these rates, and of its allowance for dossiers of all
        prefixes; none for a partner."""
        if client is None:
            return {}
        now = self._now()
        names = [(rate.allowance, client[:_NETWORK_BYTES], rate.allowance.word) for rate in rates]
        if dossiers:
            _, ((size, _, allowance), *_) = LEVELS[len(client)]
            names.append((allowance, client[:size], ""))
        return rate_headers((allowance, self._ahead((network, of), now)) for allowance, network, of in names)

    # -- due times -----------------------------------------------------------------------------------------------

    def _ahead(self, name: Name, now: float) -> float:
        """How far the due time of this name is ahead of now, in seconds."""
        place = hash(name)
        due = min(self._first[place & self._mask], self._second[place >> 24 & self._mask])
        return due - now if due > now else 0.0

    def _pay(self, charges: Iterable[_Charge]) -> None:
        first, second, mask = self._first, self._second, self._mask
        for name, place, allowance, units, now, ahead in charges:
            due, one, two = now + ahead, place & mask, place >> 24 & mask
            if first[one] < due:  # noqa: PLR1730 - the built-in function takes three times as long
                first[one] = due
            if second[two] < due:  # noqa: PLR1730
                second[two] = due
            if ahead > allowance.heavy:
                self._tell(name, allowance.interval * units)

    @staticmethod
    def _refusal(allowance: Allowance, ahead: float) -> TooManyRequests:
        metrics.limited(allowance.word).inc()
        seconds = math.ceil(ahead - allowance.tolerance)
        seconds = min(max(seconds, SOONEST), LATEST)
        return TooManyRequests(retry_after=seconds).with_headers(allowance.used_up(seconds))

    # -- other processes -----------------------------------------------------------------------------------------

    def _tell(self, name: Name, seconds: float) -> None:
        spent = self._spent.get(name, 0.0)
        if spent or len(self._spent) < MOST_NAMES:
            self._spent[name] = spent + seconds

    def take_spent(self, most: int) -> list[tuple[Name, float, float]]:
        """Up to `most` names of which much was spent: the name, the seconds spent since it was taken last, and how far
        its due time is ahead of now in this process."""
        now = self._now()
        return [
            (name, self._spent.pop(name), self._ahead(name, now)) for name in itertools.islice([*self._spent], most)
        ]

    def give_back(self, taken: Iterable[tuple[Name, float, float]]) -> None:
        """What was taken could not be told; it is taken again later."""
        for name, spent, _ in taken:
            self._tell(name, spent)

    def hear(self, name: Name, ahead: float) -> None:
        """All processes together are this far ahead of now with this name. Never lowers what this process knows."""
        place, due = hash(name), self._now() + min(ahead, FARTHEST)
        one, two = place & self._mask, place >> 24 & self._mask
        self._first[one] = max(self._first[one], due)
        self._second[two] = max(self._second[two], due)
