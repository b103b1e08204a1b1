"""Every metric that any process has, declared once, and the page Prometheus reads.

Label values are finite: routes are templates, unknown methods are one word. A metric's name begins with the process
that exports it, `hoso24_` standing for all of them: a process may import another's metrics with shared code, but never
exports them.
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
"""How the names of metrics begin that every process exports."""

# A creation time beside every series would double the page and is read by nobody here.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Counter(
    "hoso24_http_requests_total",
    "Requests answered. service is the process: lookup, intake or relay. method is the request's, OTHER for one that "
    "HTTP does not know. route is the template of the address, unmatched where there is none. status is the answer's, "
    "499 when the client had left before it.",
    ["service", "method", "route", "status"],
)
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
HTTP_SECONDS = Histogram(
    "hoso24_http_request_seconds",
    "Seconds until the answer was ready, by service and route as in hoso24_http_requests. Answers with status 429, 499 "
    "and 503 and those held back by a rate are left out, so that the latency objective can be read off it. In "
    "OpenMetrics, buckets name the trace of a sampled request that fell into them.",
    ["service", "route"],
    buckets=HTTP_BUCKETS,
)
HTTP_IN_FLIGHT = Gauge("hoso24_http_in_flight", "Requests being answered now, by service.", ["service"])
HTTP_EARLY_ANSWERS = Gauge(
    "hoso24_http_early_answers",
    "1 where hot requests are answered right behind the parser, 0 where the installed aiohttp lacks what that needs: "
    "then every request goes the normal way, and the log and `hoso24 doctor` name what is missing. By service.",
    ["service"],
)
CONNECTIONS = Gauge("hoso24_connections", "Connections clients have open to the public port, by service.", ["service"])
CONNECTIONS_CUT = Counter(
    "hoso24_connections_cut_total",
    "Connections to the public port that were hung up on, by service. reason is slow_head when no whole request came "
    "in time, deaf when answers were not taken in time or too many waited to be, silent when it made room for a "
    "newcomer while the process was full, full for a newcomer there was no room for.",
    ["service", "reason"],
)
LOOP_LAG = Gauge(
    "hoso24_loop_lag_seconds",
    "Worst lateness of the main event loop within the last 15 seconds, one that still lasts included.",
)
TASKS = Gauge(
    "hoso24_tasks",
    "Tasks of the main event loop that have not ended: one for each connection, and whatever is under way.",
)
LOG_LINES_DROPPED = Counter(
    "hoso24_log_lines_dropped_total", "Log lines given up because whoever reads the log had stopped reading."
)
DEPENDENCY_SECONDS = Histogram(
    "hoso24_dependency_seconds",
    "Seconds a call took, waiting for a connection included. dependency is whom it went to: postgres, or postgres-1, "
    "postgres-2 … in the order of the URL where that names several hosts; redis; redis-feed for following the change "
    "stream, where the call waits for news on purpose.",
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
BUILD = Info("hoso24_build", "Always 1. The labels are the versions of hoso24, of Python and of aiohttp that run.")


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


class _OfService(Collector):
    """The metrics of every process and those of one service, of all that are registered."""

    def __init__(self, service: str) -> None:
        self._prefixes = (f"{service}_", *OF_EVERY_PROCESS)

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name.startswith(self._prefixes))


def exposition(service: str, accept: str = "") -> tuple[bytes, str]:
    """The metrics of this process as text, and the content type of that text; another service's are left out.

    In OpenMetrics, which alone has exemplars, if `accept` (the request's header) has it, as Prometheus's has; otherwise
    in the older text format.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_OfService(service)), content_type
