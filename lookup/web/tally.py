"""Counts early answers and adds them to the metrics in bulk: one by one it would cost as much as an answer."""

import bisect
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from random import random
from time import perf_counter

from aiohttp.http import RawRequestMessage

from lookup import metrics
from lookup.codes_in_logs import pseudonym
from lookup.reading.freshness import SECOND
from ops.http.access import (
    NOT_TIMED,
    SLOW,
    http_counter,
    http_timer,
    is_within_drawn_lines,
    log_access,
    new_request_id,
    worth_a_line,
)
from ops.http.early_answers import EarlyAnswers
from ops.http.middleware import Trust
from ops.observe import tracing
from ops.observe.metrics import HTTP_BUCKETS, HTTP_IN_FLIGHT, observe_many

SERVICE = "lookup"

_AGE_BUCKETS = [bound * SECOND for bound in metrics.AGE_BUCKETS]
_Kind = tuple[str, str, int, str, str]
"""Route, method, status, source and outcome of an answer."""


class Tally:
    """The answers since the last flush.

    Updating Prometheus's objects one by one costs as much as an answer; sorting into buckets costs less in bulk.
    """

    def __init__(self, log_share: float, trusts: Trust) -> None:
        self._log_share = log_share
        self._trusts = trusts
        self._in_flight = HTTP_IN_FLIGHT.labels(SERVICE)
        self.promised = 0
        self._reported = 0
        self._answers: defaultdict[_Kind, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
        """How long each answer of a kind took, in seconds, and the ages known of them."""

    def count(
        self,
        route: str,
        code: str,
        message: RawRequestMessage,
        connection: EarlyAnswers,
        request_id: bytes,
        began: float,
        status: int,
        source: str,
        outcome: str,
        age: int | None = None,
        failure: Exception | None = None,
    ) -> None:
        """Count a ready answer. `code`: that of the path, empty for none.

        An empty `outcome`: no lookup, or already counted as one. `age` in microseconds.
        """
        took, ages = self._answers[route, message.method, status, source, outcome]
        seconds = perf_counter() - began
        took.append(seconds)
        if age is not None:
            ages.append(age)
        drawn = random() < self._log_share and is_within_drawn_lines(self._log_share)  # noqa: S311
        if (drawn or status >= 500 or seconds >= SLOW) and worth_a_line(status, seconds, drawn=drawn, failure=failure):
            self._log(route, code, message, connection, request_id.decode(), status, seconds, failure)

    def _log(
        self,
        route: str,
        code: str,
        message: RawRequestMessage,
        connection: EarlyAnswers,
        request_id: str,
        status: int,
        seconds: float,
        failure: Exception | None,
    ) -> None:
        """Write the request's access log line, the same as the middlewares would."""
        headers = message.headers
        given = headers.get(tracing.TRACEPARENT) if self._trusts(connection.peer) else None
        if (caller := tracing.remote(given)) is not None:
            trace = f"{caller.trace_id:032x}"
        else:
            ours = headers.get("X-Request-Id") != request_id
            trace = tracing.of_request(request_id if ours else new_request_id())
        fields = {"request_id": request_id, "trace_id": trace}
        if code:
            fields["code_hash"] = pseudonym(code)
        log_access(message.method, route, status, seconds, failure=failure, **fields)

    def flush(self) -> None:
        """Add it all to the metrics."""
        self._in_flight.inc(self.promised - self._reported)
        self._reported = self.promised
        for (route, method, status, source, outcome), (took, ages) in self._answers.items():
            http_counter(SERVICE, method, route, status).inc(len(took))
            if status not in NOT_TIMED:
                observe_many(http_timer(SERVICE, route), _sorted_into(HTTP_BUCKETS, took), sum(took))
            if outcome:
                metrics.answers(source, outcome).inc(len(took))
                observe_many(metrics.ANSWER_AGE, _sorted_into(_AGE_BUCKETS, ages), sum(ages) / SECOND)
        self._answers.clear()


def _sorted_into(bounds: Sequence[float], values: Iterable[float]) -> Iterable[tuple[int, int]]:
    """(bucket, count) of the non-empty buckets."""
    return Counter(map(functools.partial(bisect.bisect_left, bounds), values)).items()
