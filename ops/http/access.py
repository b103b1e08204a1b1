"""Counts and times answered requests, and writes the access log.

Failed and slow requests, answers with 5xx, and a sampled share of the others get a line. A line contains the route's
template, never a path: a path of this service names a dossier.
"""

import functools
import logging
import random
import struct
from collections.abc import Callable, Mapping

from prometheus_client import Counter, Histogram

from ops.observe import tracing
from ops.observe.metrics import HTTP_REQUESTS, HTTP_SECONDS
from ops.observe.per_second import PerSecond

About = Callable[[], Mapping[str, str]]
CLIENT_GONE = 499
UNMATCHED = "unmatched"
OTHER_METHOD = "OTHER"

NOT_TIMED = frozenset({429, CLIENT_GONE, 503})
"""Statuses that the latency objective leaves out."""

SLOW = 1.0
"""Seconds from which an answer is logged whatever the share."""

REFUSED_LINES = 50
"""Limit of lines per second for answers with 4xx, whatever the share: anyone can cause them."""

BAD_LINES = 100
"""Limit of lines per second for 5xx and slow answers, beyond the share."""

DRAWN_LINES = 50
"""Limit of sampled lines per second, unless the share is 1: a line costs as much as two hot lookups."""

_IDS_AT_ONCE = 256

_cut = struct.Struct("16s" * _IDS_AT_ONCE).unpack
_new_ids: list[bytes] = []
"""Made in batches, which costs a fifth of making them one by one."""

_access = logging.getLogger("hoso24.access")


def new_request_id() -> str:
    """A new id of sixteen hexadecimal digits: unique, but no secret."""
    return new_id_in_bytes().decode()


def new_id_in_bytes() -> bytes:
    """The same, as it stands in a head."""
    if not _new_ids:
        _new_ids.extend(_cut(random.randbytes(8 * _IDS_AT_ONCE).hex().encode()))  # noqa: S311
    return _new_ids.pop()


def record(
    service: str,
    method: str,
    route: str,
    status: int,
    *,
    seconds: float,
    log_share: float = 1.0,
    about: About = dict,
    failure: BaseException | None = None,
    sampled_in: str | None = None,
) -> None:
    """Count one answered request, and write its access log line if it failed, is 5xx, slow or sampled.

    `about` returns more fields and is called only for a line. `failure` is an unexpected exception; the line contains
    it. `sampled_in`: the trace that records the request.
    """
    http_counter(service, method, route, status).inc()
    if status not in NOT_TIMED:
        http_timer(service, route).observe(seconds, {"trace_id": sampled_in} if sampled_in else None)
    if worth_a_line(status, seconds, drawn=draw(log_share), failure=failure):
        log_access(method, route, status, seconds, failure=failure, **about())


_bad_lines = PerSecond(BAD_LINES)
_failed_lines = PerSecond(BAD_LINES)
_drawn_lines = PerSecond(DRAWN_LINES)
_refused_lines = PerSecond(REFUSED_LINES)


def draw(log_share: float) -> bool:
    """Sample a good and quick request for the access log with this share.

    Always true where the share is 1; otherwise at most DRAWN_LINES times per second.
    """
    return random.random() < log_share and is_within_drawn_lines(log_share)  # noqa: S311


def is_within_drawn_lines(log_share: float) -> bool:
    """The second half of `draw`, for a caller that has thrown the dice itself to save a call."""
    return log_share >= 1.0 or _drawn_lines.take()


def worth_a_line(status: int, seconds: float, *, drawn: bool, failure: BaseException | None = None) -> bool:
    """Whether a request gets a line in the access log: it failed, is 5xx, slow or was `drawn`.

    Failed requests have a limit of BAD_LINES per second, 5xx and slow ones another, and those with 4xx REFUSED_LINES:
    refusing must stay cheap under overload.
    """
    if failure is not None:
        return _failed_lines.take()
    if 400 <= status < 500:
        return (drawn or seconds >= SLOW) and _refused_lines.take()
    return drawn or ((status >= 500 or seconds >= SLOW) and _bad_lines.take())


def log_access(
    method: str, route: str, status: int, seconds: float, *, failure: BaseException | None = None, **fields: str
) -> None:
    """Write a request's line into the access log. No path: it would name a dossier."""
    level = logging.INFO if failure is None else logging.WARNING if status < 500 or status == 503 else logging.ERROR
    if not _access.isEnabledFor(level):
        return
    fields.setdefault("trace_id", tracing.trace_id() or tracing.of_request(new_request_id()))
    measured = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
    _access.log(level, "%s %s %d", method, route, status, extra={**measured, **fields}, exc_info=failure)


# `labels` takes a lock and three microseconds each time. The labels are finite, and so is this cache.
@functools.cache
def http_counter(service: str, method: str, route: str, status: int) -> Counter:
    return HTTP_REQUESTS.labels(service, method, route, status)


@functools.cache
def http_timer(service: str, route: str) -> Histogram:
    return HTTP_SECONDS.labels(service, route)
