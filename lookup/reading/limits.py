"""How fast one client may probe. What is charged is only what costs or probes; who is over a rate is slowed first.

- A code nobody has (`missing`), a key that does not open its dossier (`wrong_key`), the primary asked for the sake of
  `at_least` (`primary`).
- A dossier found outside process memory: per client (`found`), generously, because thousands of citizens share one
  carrier address, and per client and prefix of the code (`prefix`), because whoever counts codes up stays within one
  agency and day, and citizens do not.

Rates are kept apart by outcome. An enumerator of missing codes is slowed in what is missing and nothing else, so that
the citizens behind the same address, whose dossiers exist, notice nothing of it. An answer over its rate is held back,
the longer the further it is over; it is refused only when very many answers of that client are being held back.
A dossier opened by its key and an answer from process memory are charged nothing and never wait; a key whose dossier is
lost counts as `missing`.
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
"""Seconds an answer is held back at the most."""
HELD_BACK = 100
"""Answers of one client held back at once, at the most."""
_EVEN = 1e-6
REMEMBERED = 100_000
"""Most entries kept of clients with their rates, and of clients with their codes, as hashes of 64 bits; at least the
last half is kept. A forgotten client has its whole burst again: raise this when enumerators pause for that long."""


class TooManyRequests(Refusal):
    """This client has so many answers held back already that another one is refused."""

    kind = Kind.LIMITED
    code = "too_many_requests"
    title = "Too many requests from your network. Please try again later, or use the lookup key on your receipt."
    title_vi = "Mạng của bạn gửi quá nhiều lượt tra cứu. Vui lòng thử lại sau hoặc dùng mã tra cứu trên giấy hẹn."
    usual_retry_after = 10


class Rate(enum.Enum):
    """What is charged: its name, how many at once, and how many a second after that."""

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
    """The rates of all clients of one process; several processes each allow as much. No rate applies to client None."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # Of each two tables, the older of which is dropped when the newer is half full: an order of use kept for every
        # entry would cost more than the rates themselves.
        self._due: dict[int, float] = {}
        self._due_before: dict[int, float] = {}
        self._known: set[int] = set()
        self._known_before: set[int] = set()
        self._held_back: collections.Counter[bytes | None] = collections.Counter()

    def found(self, client: bytes | None, code: DossierCode) -> float:
        """Charge a dossier found outside memory; the seconds its answer has to wait, 0.0 for none.

        One that this client was charged for lately is free: to ask again is not to count up.
        """
        if client is None:
            return 0.0
        known = hash((client, code.text))
        if known in self._known or known in self._known_before:
            return 0.0
        self._known.add(known)
        if len(self._known) >= REMEMBERED // 2:
            self._known_before, self._known = self._known, set()
        # What is slowed for its prefix is not charged to the client as well: others stand behind the same address.
        return self._charge(client, Rate.PREFIX, code.prefix) or self._charge(client, Rate.FOUND)

    def probed(self, client: bytes | None, rate: Rate) -> float:
        """Charge a miss, a wrong key or a question to the primary; the seconds its answer has to wait."""
        return self._charge(client, rate)

    async def hold_back(self, client: bytes | None, seconds: float) -> None:
        """Let this answer wait. Raises TooManyRequests when too many of this client wait already."""
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
        """The generic cell rate algorithm: `due` is when the client would be even again."""
        if client is None:
            return 0.0
        now = self._monotonic()
        key = hash((client, rate.word, name))
        due = self._due.get(key) or self._due_before.get(key, 0.0)
        due = (due if due > now else now) + rate.interval
        over = due - now - rate.tolerance
        # However far over somebody goes, LONGEST_WAIT after the last probe is all that is left of it.
        self._due[key] = due if over <= LONGEST_WAIT else now + rate.tolerance + LONGEST_WAIT
        if len(self._due) >= REMEMBERED // 2:
            self._due_before, self._due = self._due, {}
        if over <= _EVEN:
            return 0.0
        metrics.SLOWED.labels(rate.word).inc()
        return min(over, LONGEST_WAIT)
