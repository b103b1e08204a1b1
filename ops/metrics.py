"""Every metric of the chassis, declared once, and the page Prometheus reads.

Label values are finite: routes are templates, unknown methods are one word.
"""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import prometheus_client
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, Info

# A creation time beside every series would double the page and is read by nobody here.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Counter(
    "hoso24_http_requests_total",
    "Requests by the status they were answered with; 499 when the client had left before the answer.",
    ["service", "method", "route", "status"],
)
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
HTTP_SECONDS = Histogram(
    "hoso24_http_request_seconds",
    "Seconds until the answer was ready. Left out, so that the latency objective can be read off it: 429, 499 and 503.",
    ["service", "route"],
    buckets=HTTP_BUCKETS,
)
HTTP_IN_FLIGHT = Gauge("hoso24_http_in_flight", "Requests being answered now.", ["service"])
CONNECTIONS = Gauge("hoso24_connections", "Connections clients have open to the public port.", ["service"])
CONNECTIONS_CUT = Counter(
    "hoso24_connections_cut_total",
    "Connections hung up on: slow_head (no whole request in time), deaf (answers not taken in time, or by too many), "
    "silent (made room for a newcomer when the process was full), full (a newcomer there was no room for).",
    ["service", "reason"],
)
LOOP_LAG = Gauge(
    "hoso24_loop_lag_seconds",
    "Worst lateness of the main event loop within the last 15 seconds, one that still lasts included.",
)
LOG_LINES_DROPPED = Counter(
    "hoso24_log_lines_dropped_total", "Log lines given up because whoever reads the log had stopped reading."
)
DEPENDENCY_SECONDS = Histogram(
    "hoso24_dependency_seconds",
    "Seconds a call to a dependency took, waiting for a connection included.",
    ["dependency"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
DEPENDENCY_UNAVAILABLE = Counter(
    "hoso24_dependency_unavailable_total",
    "Calls to a dependency that ended without its answer, by the class of what was raised.",
    ["dependency", "reason"],
)
BREAKER_OPEN = Gauge("hoso24_breaker_open", "1 while calls to the dependency are refused at once.", ["dependency"])
BUILD = Info("hoso24_build", "What is running.")


def observe_many(histogram: Histogram, counts: Iterable[tuple[int, int]], total: float) -> None:
    """Add many observations at once: how many fell into which bucket, counted from 0, and what they add up to.

    One by one they would cost a microsecond each, which is much where ten take place in the same millisecond.
    """
    for bucket, count in counts:
        if count:
            histogram._buckets[bucket].inc(count)
    histogram._sum.inc(total)


def release() -> str:
    """The installed version, or "unknown" when run from a bare checkout."""
    try:
        return version("hoso24")
    except PackageNotFoundError:
        return "unknown"


BUILD.info({"version": release(), "python": platform.python_version(), "aiohttp": version("aiohttp")})


def exposition() -> tuple[bytes, str]:
    """All metrics of the process as text, and the content type of that text."""
    return prometheus_client.generate_latest(), CONTENT_TYPE_LATEST
