"""What each client may do in a minute: one budget for changes, one for reads, one for lines of a synchronisation.

Each process counts for itself: a minute's worth at once, and as much in each minute after that. A refused request costs
nothing. The number of clients is that of the table `client`, so nothing here is ever evicted.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from intake import metrics
from ops.errors import Kind, Refusal
from ops.http.allowance import Allowance, rate_headers

log = logging.getLogger(__name__)

WRITE, READ, SYNC = "write", "read", "sync"
LOG_EVERY: Final = 60.0
"""Seconds between two log lines about one budget of one client."""


class OverBudget(Refusal):
    """The client has used up what it may do in a minute; `limit` names the budget, `left` what there is of it."""

    kind = Kind.LIMITED
    code = "client_limit"
    title = (
        "This client has reached its limit of requests or lines in a minute. Try again after the time in Retry-After."
    )
    title_vi = "Hệ thống gửi yêu cầu đã đạt giới hạn trong một phút. Vui lòng thử lại sau thời gian nêu ở Retry-After."
    usual_retry_after = 1
    repeating_helps = True


class ClientLimit(msgspec.Struct, frozen=True):
    """What a client may do: `quota` units in `window` seconds; `left` of them in the process that answered."""

    name: str
    quota: int
    window: int
    left: int


@dataclass(slots=True)
class _Refused:
    """Refusals of one client for one budget."""

    total: int = 0
    logged: int = 0
    logged_at: float = -math.inf
    last_at: float = 0.0


class Budgets:
    """What the clients of one process have used."""

    def __init__(self, *, write: int, read: int, sync: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Each is in units a minute."""
        self._of = {
            name: Allowance(name, units, 60 * units) for name, units in ((WRITE, write), (READ, read), (SYNC, sync))
        }
        for name in self._of:
            metrics.CLIENTS_LIMITED.labels(name)  # its series is there before the first refusal
        self._now = monotonic
        self._due: dict[tuple[str, str], float] = {}
        """Client and budget → the moment from which it is whole again."""
        self._refused: dict[tuple[str, str], _Refused] = {}

    def spend(self, client: str, budget: str, units: int = 1) -> None:
        """Charge this client so many units at once.

        Raises OverBudget, and charges nothing, when fewer are left; its Retry-After is when there are as many. Units
        beyond a minute's quota are never there.
        """
        self._due[client, budget] = self._now() + self._ahead_with(client, budget, units)

    def require(self, client: str, budget: str) -> None:
        """Raise OverBudget when no unit is left, and charge nothing: for who knows only later how many it needs."""
        self._ahead_with(client, budget, 1)

    def headers(self, client: str, budget: str) -> Mapping[str, str]:
        """The RateLimit headers of what this client has left."""
        return rate_headers([(self._of[budget], self._ahead(client, budget))])

    def limits(self, client: str) -> list[ClientLimit]:
        """All budgets of this client, as they stand now."""
        return [
            ClientLimit(name, of.burst, of.window, of.units(self._ahead(client, name))) for name, of in self._of.items()
        ]

    def report(self, _: Mapping[str, str]) -> dict[str, object]:
        """For the doctor: the clients that were refused in the last hour, by budget, with the refusals since start."""
        since = self._now() - 3600
        return {
            "limited": [
                {"client": client, "budget": budget, "refused": refused.total}
                for (client, budget), refused in sorted(self._refused.items())
                if refused.last_at > since
            ]
        }

    def _ahead(self, client: str, budget: str) -> float:
        return max(0.0, self._due.get((client, budget), 0.0) - self._now())

    def _ahead_with(self, client: str, budget: str, units: int) -> float:
        """How far the due time would be ahead of now with so many units more. Raises OverBudget."""
        allowance, before = self._of[budget], self._ahead(client, budget)
        ahead = before + allowance.interval * units
        if ahead <= allowance.tolerance:
            return ahead
        self._note(client, budget)
        left, seconds = allowance.units(before), max(1, math.ceil(ahead - allowance.tolerance))
        wanted = "it is used up" if units == 1 else f"{left} are left of it, and {units} are needed"
        raise OverBudget(
            f"The limit {budget!r} of this client is {allowance.burst} a minute; {wanted}.",
            retry_after=seconds,
            limit=budget,
            left=left,
        ).with_headers(allowance.used_up(seconds, left))

    def _note(self, client: str, budget: str) -> None:
        metrics.CLIENTS_LIMITED.labels(budget).inc()
        now, refused = self._now(), self._refused.setdefault((client, budget), _Refused())
        refused.total += 1
        refused.last_at = now
        if now - refused.logged_at >= LOG_EVERY:
            new, refused.logged, refused.logged_at = refused.total - refused.logged, refused.total, now
            log.warning(
                "Client %s is over its limit %s of %d a minute: refused %d times since the last such line",
                *(client, budget, self._of[budget].burst, new),
            )
