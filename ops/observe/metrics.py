"""The metrics of every process, and the page that Prometheus scrapes.

Label values are finite: routes are templates, unknown methods count as one. A metric's name starts with the process
that exports it, or with `hoso24_` for all processes: a process that imports another's metrics with shared code does
not export them.
"""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import prometheus_client
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

OF_EVERY_PROCESS = ("hoso24_", "python_", "process_")
"""Prefixes of the metrics that every process exports."""

# A creation time for every series would double the page, and no rule or dashboard uses it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Counter(
    "hoso24_http_requests_total",
    "Requests answered. service is the process: lookup, intake, relay or notary. method is the request's, OTHER for "
    "one that HTTP does not define. route is the template of the address, unmatched when there is none. status is the "
    "answer's, 499 when the client had reset the connection before it: one that only ends its side is answered.",
    ["service", "method", "route", "status"],
)
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
HTTP_SECONDS = Histogram(
    "hoso24_http_request_seconds",
    "Seconds until the answer was ready, by service and route as in hoso24_http_requests. Answers with status 429, 499 "
    "and 503 and those delayed for a rate are left out, as the latency objective requires. In OpenMetrics, buckets "
    "have the trace of a sampled request as exemplar.",
    ["service", "route"],
    buckets=HTTP_BUCKETS,
)
HTTP_IN_FLIGHT = Gauge("hoso24_http_in_flight", "Requests being answered now, by service.", ["service"])
HTTP_EARLY_ANSWERS = Gauge(
    "hoso24_http_early_answers",
    "1 where hot requests are answered right after the parser, 0 where the installed aiohttp lacks what that needs: "
    "then aiohttp handles every request, and the log and `hoso24 doctor` name what is missing. By service.",
    ["service"],
)
CONNECTIONS = Gauge("hoso24_connections", "Open client connections to the public port, by service.", ["service"])
CONNECTIONS_CUT = Counter(
    "hoso24_connections_cut_total",
    "Connections to the public port that the process closed, by service. reason is slow_head when no whole request "
    "came in time, deaf when the client did not read its answers, silent when the longest idle connection made room "
    "for a new one at the connection limit, full when a new one was refused because every connection was busy.",
    ["service", "reason"],
)
LOOP_LAG = Gauge(
    "hoso24_loop_lag_seconds",
    "Worst lateness of the main event loop within the last 15 seconds, including the current turn's.",
)
TASKS = Gauge(
    "hoso24_tasks",
    "Running tasks of the main event loop: one for each connection, and background work.",
)
LOG_LINES_DROPPED = Counter(
    "hoso24_log_lines_dropped_total", "Log lines dropped because the reader of the log had stalled."
)
DEPENDENCY_SECONDS = Histogram(
    "hoso24_dependency_seconds",
    "Seconds a call took, including waiting for a connection. dependency is the server: postgres, or postgres-1, "
    "postgres-2 … in the order of the URL when it names several hosts; redis; redis-feed for following the change "
    "stream, where a call blocks until an entry arrives.",
    ["dependency"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
DEPENDENCY_UNAVAILABLE = Counter(
    "hoso24_dependency_unavailable_total",
    "Calls that ended without an answer. dependency as in hoso24_dependency_seconds. reason is OurOwnDelay when this "
    "process was late itself or had too few connections, Refused when the dependency answered that it cannot serve, "
    "otherwise the class of the driver's exception, such as TimeoutError or ConnectionRefusedError.",
    ["dependency", "reason"],
)
BREAKER_OPEN = Gauge(
    "hoso24_breaker_open",
    "1 while calls are refused at once because the last ones failed, else 0. dependency as in "
    "hoso24_dependency_seconds.",
    ["dependency"],
)
BUILD = Info("hoso24_build", "Always 1. The labels are the running versions of hoso24, Python and aiohttp.")


def observe_many(histogram: Histogram, counts: Iterable[tuple[int, int]], total: float) -> None:
    """Add many observations at once: (bucket index from 0, count) pairs, and the sum of the values.

    One by one they would cost a microsecond each, too much for ten in the same millisecond.
    """
    for bucket, count in counts:
        if count:
            histogram._buckets[bucket].inc(count)
    histogram._sum.inc(total)


def release() -> str:
    """The installed version, or "unknown" in a checkout that is not installed."""
    try:
        return version("hoso24")
    except PackageNotFoundError:
        return "unknown"


BUILD.info({"version": release(), "python": platform.python_version(), "aiohttp": version("aiohttp")})


class _OfService(Collector):
    """Collects the registered metrics that every process exports, and those of one service."""

    def __init__(self, service: str) -> None:
        self._prefixes = (f"{service}_", *OF_EVERY_PROCESS)

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name.startswith(self._prefixes))


def exposition(service: str, accept: str = "") -> tuple[bytes, str]:
    """This process's metrics as text, and its content type; metrics of other services are left out.

    The text is OpenMetrics, which has exemplars, if `accept` (the request's header) allows it, as Prometheus's does;
    otherwise Prometheus's older text format.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_OfService(service)), content_type
