"""Rate limits per client. Only answers that cost a query or probe for codes are charged; excess is delayed first.

- A code that does not exist (`missing`), a key that does not match its dossier (`wrong_key`), a query to the primary
  because of `at_least` (`primary`).
- A dossier found outside process memory: per client (`found`), with a high limit, because thousands of citizens share
  one carrier address, and per client and prefix of the code (`prefix`), because an enumerator that counts up stays
  within one agency and day, and citizens do not.

Each outcome has its own rate. An enumerator of missing codes is slowed for missing codes only; citizens behind the same
address, whose dossiers exist, are not affected. An answer over its rate is held back, longer the further it exceeds
the rate; it is refused only when HELD_BACK answers of that client are being held back. A dossier opened by its key and
an answer from process memory are free and never wait; a valid key of a lost dossier counts as `missing`.
"""

import asyncio
import collections
import enum
import time
from collections.abc import Callable

from lookup import metrics
from lookup.code import DossierCode
from ops.errors import Kind, Refusal

LONGEST_WAIT = 2.0
"""Longest time an answer is held back, in seconds."""
HELD_BACK = 100
"""Limit of answers of one client held back at once."""
_EVEN = 1e-6
REMEMBERED = 100_000
"""Entries kept of clients' rates, and of clients' codes, as 64-bit hashes; at least the newer half is kept. An evicted
client has its whole burst again: raise this when enumerators pause for that long."""


class TooManyRequests(Refusal):
    """HELD_BACK answers of this client are being held back already."""

    kind = Kind.LIMITED
    code = "too_many_requests"
    title = "This network connection has made too many lookups in a short time. Several people may be sharing it."
    title_vi = "Kết nối mạng này đã tra cứu quá nhiều lần trong thời gian ngắn, có thể do nhiều người dùng chung."
    usual_retry_after = 10


class Rate(enum.Enum):
    """A rate: its name, the burst, and the events per second after that."""

    MISSING = ("missing", 100, 2.0)
    WRONG_KEY = ("wrong_key", 30, 0.5)
    PRIMARY = ("primary", 50, 5.0)
    FOUND = ("found", 20_000, 200.0)
    PREFIX = ("prefix", 200, 2.0)

    def __init__(self, word: str, burst: int, per_second: float) -> None:
        self.word = word
        self.interval = 1.0 / per_second
        self.tolerance = burst / per_second


class Limits:
    """The rates of all clients in one process; each process counts by itself. Client None has no rate."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # Two tables each; the older is dropped when the newer is half full. An LRU order for every entry would cost
        # more than the rates themselves.
        self._due: dict[int, float] = {}
        self._due_before: dict[int, float] = {}
        self._known: set[int] = set()
        self._known_before: set[int] = set()
        self._held_back: collections.Counter[bytes | None] = collections.Counter()

    def found(self, client: bytes | None, code: DossierCode) -> float:
        """Charge a dossier found outside memory. Returns the seconds its answer has to wait, 0.0 for none.

        A code this client was charged for recently is free: repeating a lookup is not enumerating.
        """
        if client is None:
            return 0.0
        known = hash((client, code.text))
        if known in self._known or known in self._known_before:
            return 0.0
        self._known.add(known)
        if len(self._known) >= REMEMBERED // 2:
            self._known_before, self._known = self._known, set()
        # An answer slowed for its prefix is not charged to the client too: other citizens share the address.
        return self._charge(client, Rate.PREFIX, code.prefix) or self._charge(client, Rate.FOUND)

    def probed(self, client: bytes | None, rate: Rate) -> float:
        """Charge a miss, a wrong key or a query to the primary. Returns the seconds its answer has to wait."""
        return self._charge(client, rate)

    async def hold_back(self, client: bytes | None, seconds: float) -> None:
        """Wait `seconds`. Raises TooManyRequests when HELD_BACK answers of this client wait already."""
        if self._held_back[client] >= HELD_BACK:
            metrics.LIMITED.inc()
            raise TooManyRequests
        self._held_back[client] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._held_back[client] -= 1
            if not self._held_back[client]:
                del self._held_back[client]

    def _charge(self, client: bytes | None, rate: Rate, name: str = "") -> float:
        """The generic cell rate algorithm: `due` is the theoretical arrival time of the next event."""
        if client is None:
            return 0.0
        now = self._monotonic()
        key = hash((client, rate.word, name))
        due = self._due.get(key) or self._due_before.get(key, 0.0)
        due = (due if due > now else now) + rate.interval
        over = due - now - rate.tolerance
        # However far a client exceeds its rate, LONGEST_WAIT after its last probe nothing of that remains.
        self._due[key] = due if over <= LONGEST_WAIT else now + rate.tolerance + LONGEST_WAIT
        if len(self._due) >= REMEMBERED // 2:
            self._due_before, self._due = self._due, {}
        if over <= _EVEN:
            return 0.0
        metrics.SLOWED.labels(rate.word).inc()
        return min(over, LONGEST_WAIT)
