"""Traces over OTLP/HTTP, if the standard OTEL_* variables set an endpoint; otherwise nothing is traced.

Spans contain route templates, never paths: a path of this service names a dossier. The provider is not made the
process-wide one, so that no library's instrumentation exports statements and keys.

Sampling is decided before any span is created: an unsampled request has no span, and code inside it checks one context
variable. It still has a trace id, for the log.
"""

import contextlib
import functools
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ops.observe.metrics import release
from ops.observe.per_second import PerSecond

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

USUAL_RATIO = 0.01
DRAWN_TRACES = 50
"""Limit of new traces per second and process, unless the share is 1: bounds the cost of tracing."""
TRACEPARENT = "traceparent"

Attribute = str | int | float | bool | Sequence[str]

_log = logging.getLogger(__name__)
_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None
_ratio = 0.0
"""The share of new traces that are sampled; infinite when the SDK's own sampler decides for every request."""
_drawn: ContextVar[bool] = ContextVar("drawn", default=False)
_recording: ContextVar[Span | None] = ContextVar("recording", default=None)
"""The innermost recorded span; None for unsampled requests."""
_trace: ContextVar[str | None] = ContextVar("trace", default=None)
"""The trace id of the current request, sampled or not."""
_untraced = contextlib.nullcontext(INVALID_SPAN)
_drawn_traces = PerSecond(DRAWN_TRACES)


class Tracing:
    """The result of `configure`. Without an endpoint there is no provider and nothing to shut down."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self.provider = provider

    @property
    def active(self) -> bool:
        return self.provider is not None

    def shutdown(self, seconds: float = 5.0) -> None:
        """Send the waiting spans for at most `seconds`; with a hanging collector the rest is lost."""
        global _tracer  # noqa: PLW0603 - set by configure, for the process
        _tracer = None
        if self.provider is None:
            return
        # The SDK waits up to 30 s by itself, and its timeout argument does not reach the exporter.
        flush = threading.Thread(target=self.provider.shutdown, name="flush-traces", daemon=True)
        flush.start()
        flush.join(seconds)
        if flush.is_alive():
            _log.warning("The trace collector did not accept the last spans within %g s; they are lost", seconds)
        self.provider = None


def configure(service: str) -> Tracing:
    """Start exporting, if the environment sets an endpoint. The SDK is imported only then."""
    global _tracer, _ratio  # noqa: PLW0603 - one tracer per process
    if not _wanted(os.environ):
        return Tracing(None)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", f"hoso24-{service}")
    _ratio, sampler = _sampler(os.environ)
    provider = TracerProvider(
        sampler=sampler and _sampling_what_is_drawn(sampler),
        id_generator=_named_after_requests(),
        resource=Resource.create({"service.name": name, "service.version": release()}),
        shutdown_on_exit=False,  # it would wait without a timeout
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("hoso24")
    return Tracing(provider)


def _wanted(environ: Mapping[str, str]) -> bool:
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    refused = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(endpoint) and not refused


def _sampler(environ: Mapping[str, str]) -> "tuple[float, Sampler | None]":
    """The share of new traces to sample, USUAL_RATIO unless the environment sets it, and the sampler.

    With OTEL_TRACES_SAMPLER set the share is infinite and the sampler None: the SDK decides for every request.
    """
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    if "OTEL_TRACES_SAMPLER" in environ:
        return math.inf, None
    ratio = environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    try:
        share = float(ratio) if ratio else USUAL_RATIO
        return share, ParentBasedTraceIdRatio(share)
    except ValueError:
        _log.warning("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1; using %g", USUAL_RATIO)
        return USUAL_RATIO, ParentBasedTraceIdRatio(USUAL_RATIO)


def _sampling_what_is_drawn(sampler: "Sampler") -> "Sampler":
    """The sampler, except that a request drawn before its span is sampled whatever its trace id."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

    class Drawn(Sampler):
        def should_sample(self, *arguments: Any, **named: Any) -> Any:
            return (ALWAYS_ON if _drawn.get() else sampler).should_sample(*arguments, **named)

        def get_description(self) -> str:
            return f"Drawn{{{sampler.get_description()}}}"

    return Drawn()


def _named_after_requests() -> "IdGenerator":
    """New traces get the trace id that the request already has in the log."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class OfRequests(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return int(_trace.get() or "0", 16) or super().generate_trace_id()

    return OfRequests()


# -- one request -----------------------------------------------------------------------------------------------


def of_request(request_id: str) -> str:
    """The trace id of a request without a caller's trace: its request id, padded with zeros.

    W3C Trace Context allows that for systems with shorter ids. So the X-Request-Id of an answer gives its trace id, and
    no second id has to be made.
    """
    return request_id.rjust(32, "0")


def begin(trace: str | None) -> None:
    """Set the trace id of the current request; None for none yet."""
    _trace.set(trace)


def remote(traceparent: str | None) -> SpanContext | None:
    """The span context in a traceparent header; None when it is absent or invalid."""
    if not traceparent:
        return None
    context = get_current_span(_propagator.extract({TRACEPARENT: traceparent}, Context())).get_span_context()
    return context if context.is_valid else None


def draw(traceparent: str | None) -> bool:
    """Whether to sample a request: its caller's decision, or a random one when there is none.

    Give `traceparent` only if its sender is trusted. With a share below 1, at most DRAWN_TRACES requests without one
    are sampled per second.
    """
    if _tracer is None:
        return False
    if traceparent and _ratio <= 1.0:
        caller = remote(traceparent)
        if caller is not None:
            return caller.trace_flags.sampled
    return _ratio >= 1.0 or (random.random() < _ratio and _drawn_traces.take())  # noqa: S311


def server_span(method: str, route: str | None, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """The span of a sampled request; `answered` adds its status.

    It is a child of the caller's span named in `headers`, which must come from a trusted peer.
    """
    return _untraced if _tracer is None else _server_span(_tracer, method, route, headers)


@contextlib.contextmanager
def _server_span(tracer: Tracer, method: str, route: str | None, headers: Mapping[str, str]) -> Iterator[Span]:
    drawn = _drawn.set(_ratio <= 1.0)  # a sampler set in the environment decides
    try:
        server = tracer.start_span(
            f"{method} {route}" if route else method,
            context=_propagator.extract(headers, Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method} | ({"http.route": route} if route else {}),
        )
    finally:
        _drawn.reset(drawn)
    with _current(server):
        yield server


def root_span(name: str, began: int, **attributes: Attribute) -> AbstractContextManager[Span]:
    """The span of background work that began at `began` (time.time_ns), in a trace of its own.

    The share of sampled requests does not apply, since such work serves many requests: unless that share is 0, up to
    DRAWN_TRACES per second are sampled. Attributes must not contain a code, a key or a person.
    """
    if _tracer is None or not (_ratio >= 1.0 or (_ratio > 0.0 and _drawn_traces.take())):
        return _untraced
    return _root_span(_tracer, name, began, attributes)


@contextlib.contextmanager
def _root_span(tracer: Tracer, name: str, began: int, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
    drawn = _drawn.set(_ratio <= 1.0)
    try:
        with _span(tracer, name, attributes, context=Context(), start_time=began) as span:
            yield span
    finally:
        _drawn.reset(drawn)


def untraced() -> AbstractContextManager[Span]:
    """The replacement of `server_span` for an unsampled request."""
    return _untraced


def answered(span: Span, status: int) -> None:
    """Set the status on a server span; from 500 on the span is an error."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


# -- inside of it ----------------------------------------------------------------------------------------------


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
    """An inner span; none in an unsampled request.

    Attributes must not contain a code, a key or a person.
    """
    return _untraced if _recording.get() is None or _tracer is None else _span(_tracer, name, attributes)


@contextlib.contextmanager
def _span(tracer: Tracer, name: str, attributes: Mapping[str, Attribute], **more: Any) -> Iterator[Span]:
    inner = tracer.start_span(name, attributes=attributes, **more)
    with _current(inner):
        try:
            yield inner
        except Exception:
            inner.set_status(StatusCode.ERROR)
            raise


@contextlib.contextmanager
def _current(span: Span) -> Iterator[None]:
    """Makes this span the current one for the block, and ends it."""
    outer = _recording.set(span if span.is_recording() else None)
    try:
        # The text of an exception may quote the request.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        _recording.reset(outer)


def annotate(**attributes: Attribute) -> None:
    """Add attributes to the innermost span; nothing in an unsampled request, or when the span has ended."""
    span = _recording.get()
    if span is not None and span.is_recording():
        span.set_attributes(attributes)


def call_span(dependency: str, system: str, operation: str) -> Span | None:
    """The span of a call to a server, for `call_ended`; None in an unsampled request.

    `dependency` as in the metrics; `system` and `operation` as OpenTelemetry names them: `redis`, `MGET`.
    """
    if _recording.get() is None or _tracer is None:
        return None
    attributes = {"db.system.name": system, "hoso24.dependency": dependency}
    if operation:
        attributes["db.operation.name"] = operation
    return _tracer.start_span(f"{operation} {dependency}".strip(), kind=SpanKind.CLIENT, attributes=attributes)


def call_ended(span: Span, failure: str) -> None:
    """End the span; `failure` is the error's class name, empty on success."""
    if failure:
        span.set_attribute("error.type", failure)
        span.set_status(StatusCode.ERROR)
    span.end()


def statement_ended(transaction: Span, sql: str, seconds: float, failure: str) -> None:
    """The span of one statement of a transaction that has just ended, after `seconds`: its command and table, no text.

    `failure` as for `call_ended`.
    """
    if _tracer is None:
        return
    operation, table = command(sql)
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation}
    if table:
        attributes["db.collection.name"] = table
    span = _tracer.start_span(
        f"{operation} {table}".strip(),
        context=set_span_in_context(transaction),
        kind=SpanKind.CLIENT,
        attributes=attributes,
        start_time=time.time_ns() - round(seconds * 1e9),
    )
    call_ended(span, failure)


_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM)\s+([a-z_]+)")


@functools.lru_cache(256)
def command(sql: str) -> tuple[str, str]:
    """The SQL command of a statement, SELECT for WITH, and the first table it names, '' for none."""
    first, table = sql.split(maxsplit=1)[0].rstrip(";"), _TABLE.search(sql)
    return "SELECT" if first == "WITH" else first, table[1] if table else ""


class Named(Protocol):
    """An item of a batch, fetched under this name."""

    @property
    def name(self) -> str: ...


class Waits:
    """Spans of sampled requests that wait for batches.

    Each request waits in its own span. A batch has a span that is a child of the first waiting one and linked with all
    of them. (OpenTelemetry requires a link for each item of a batch and allows one of them as the parent. So one trace
    leads from the request to the database, and nearly always it is the only sampled one.) Without a sampled request
    waiting, a batch costs one look at an empty dictionary.
    """

    def __init__(self) -> None:
        self._spans: dict[str, list[Span]] = {}

    def wait(self, what: str, name: str) -> AbstractContextManager[Span]:
        """Around waiting for `name`, which is not recorded in the span."""
        return _untraced if _recording.get() is None or _tracer is None else self._wait(_tracer, what, name)

    def batch(self, what: str, items: Sequence[Named]) -> AbstractContextManager[Span]:
        """Around one round trip for all these items."""
        return _untraced if not self._spans or _tracer is None else self._batch(_tracer, what, items)

    @contextlib.contextmanager
    def _wait(self, tracer: Tracer, what: str, name: str) -> Iterator[Span]:
        with _span(tracer, what, {}) as span:
            waiting = self._spans.setdefault(name, [])
            waiting.append(span)
            try:
                yield span
            finally:
                waiting.remove(span)
                if not waiting:
                    del self._spans[name]

    @contextlib.contextmanager
    def _batch(self, tracer: Tracer, what: str, items: Sequence[Named]) -> Iterator[Span]:
        served = list(self._among(items))
        if not served:
            yield INVALID_SPAN
            return
        with _span(
            tracer,
            what,
            {"hoso24.batch.size": len(items)},
            context=set_span_in_context(served[0]),
            links=[Link(span.get_span_context()) for span in served],
        ) as batch:
            for span in served:
                span.add_link(batch.get_span_context())
            yield batch
            for latecomer in self._among(items):
                if latecomer not in served:
                    batch.add_link(latecomer.get_span_context())
                    latecomer.add_link(batch.get_span_context())

    def _among(self, items: Iterable[Named]) -> Iterator[Span]:
        for item in items:
            yield from self._spans.get(item.name, ())


def trace_id(span: Span | None = None) -> str | None:
    """The current trace id, or that of a recorded `span`, as 32 hexadecimal digits; None without one."""
    context = (span or get_current_span()).get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else _trace.get()
