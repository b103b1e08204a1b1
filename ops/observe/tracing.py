"""Traces over OTLP/HTTP, when an endpoint is set by the standard OTEL_* variables; otherwise nothing at all.

Spans carry route templates, never paths: a path of this service names somebody's dossier. The provider
stays our own instead of becoming the process-wide one, so that no library's instrumentation starts to
export statements and keys of its own accord.

Which requests are sampled is drawn before anything is made for them: those that are not have no span, and everything
inside them finds that out by looking at one context variable. Each of them has a trace id all the same, for the log.
"""

import contextlib
import logging
import math
import os
import random
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
"""Most new traces a process samples in a second, unless all are wanted: it bounds what tracing costs a hot lookup."""
TRACEPARENT = "traceparent"

Attribute = str | int | float | bool

_log = logging.getLogger(__name__)
_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None
_ratio = 0.0
"""The share of new traces that are sampled; infinite where the SDK has to be asked about every request."""
_drawn: ContextVar[bool] = ContextVar("drawn", default=False)
_recording: ContextVar[Span | None] = ContextVar("recording", default=None)
"""The innermost span that is being recorded; None nearly always."""
_trace: ContextVar[str | None] = ContextVar("trace", default=None)
"""The trace of the request being answered, sampled or not."""
_untraced = contextlib.nullcontext(INVALID_SPAN)
_drawn_traces = PerSecond(DRAWN_TRACES)


class Tracing:
    """What configure has set up. Without an endpoint there is no provider and nothing to shut down."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self.provider = provider

    @property
    def active(self) -> bool:
        return self.provider is not None

    def shutdown(self, seconds: float = 5.0) -> None:
        """Send what is waiting, for at most `seconds`; a collector that hangs costs the rest of the spans."""
        global _tracer  # noqa: PLW0603 - set by configure, for the process
        _tracer = None
        if self.provider is None:
            return
        # The SDK waits up to 30 s by itself, and its timeout argument does not reach the exporter.
        flush = threading.Thread(target=self.provider.shutdown, name="flush-traces", daemon=True)
        flush.start()
        flush.join(seconds)
        if flush.is_alive():
            _log.warning("The trace collector did not take the last spans within %g s.", seconds)
        self.provider = None


def configure(service: str) -> Tracing:
    """Start exporting, if the environment names an endpoint. The SDK is imported only then."""
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
        shutdown_on_exit=False,  # it would wait without a bound
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("hoso24")
    return Tracing(provider)


def _wanted(environ: Mapping[str, str]) -> bool:
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    refused = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(endpoint) and not refused


def _sampler(environ: Mapping[str, str]) -> "tuple[float, Sampler | None]":
    """One trace in a hundred, unless the environment says otherwise, and which share of new traces that is.

    None leaves the choice to the SDK; then every request has to ask it.
    """
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    if "OTEL_TRACES_SAMPLER" in environ:
        return math.inf, None
    ratio = environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    try:
        share = float(ratio) if ratio else USUAL_RATIO
        return share, ParentBasedTraceIdRatio(share)
    except ValueError:
        _log.warning("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1; %g is used.", USUAL_RATIO)
        return USUAL_RATIO, ParentBasedTraceIdRatio(USUAL_RATIO)


def _sampling_what_is_drawn(sampler: "Sampler") -> "Sampler":
    """The sampler, except that a request drawn before its span began is sampled whatever its trace id says."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

    class Drawn(Sampler):
        def should_sample(self, *arguments: Any, **named: Any) -> Any:
            return (ALWAYS_ON if _drawn.get() else sampler).should_sample(*arguments, **named)

        def get_description(self) -> str:
            return f"Drawn{{{sampler.get_description()}}}"

    return Drawn()


def _named_after_requests() -> "IdGenerator":
    """New traces have the id that their request has in the log already."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class OfRequests(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return int(_trace.get() or "0", 16) or super().generate_trace_id()

    return OfRequests()


# -- one request -----------------------------------------------------------------------------------------------


def of_request(request_id: str) -> str:
    """The trace a request has that nobody else's trace contains: its id of our own making, filled up with zeros.

    W3C Trace Context allows that for systems whose ids are shorter. So whoever has the X-Request-Id of an answer has
    its trace, and telling the two apart costs nothing.
    """
    return request_id.rjust(32, "0")


def begin(trace: str | None) -> None:
    """Say which trace the request now being answered has; None for none yet."""
    _trace.set(trace)


def remote(traceparent: str | None) -> SpanContext | None:
    """What a traceparent header says; None where there is none, or none that can be understood."""
    if not traceparent:
        return None
    context = get_current_span(_propagator.extract({TRACEPARENT: traceparent}, Context())).get_span_context()
    return context if context.is_valid else None


def draw(traceparent: str | None) -> bool:
    """Whether a request is to be sampled: its caller's word, or one of so many of those that bring none.

    A `traceparent` is to be given only if whoever sent it is trusted. Where the share is below 1, DRAWN_TRACES of those
    that bring none are sampled in a second at the most.
    """
    if _tracer is None:
        return False
    if traceparent and _ratio <= 1.0:
        caller = remote(traceparent)
        if caller is not None:
            return caller.trace_flags.sampled
    return _ratio >= 1.0 or (random.random() < _ratio and _drawn_traces.take())  # noqa: S311


def server_span(method: str, route: str | None, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """The span of one request that was drawn; `answered` completes it.

    A child of the caller's if the headers name one: those of somebody who is not trusted must not be given.
    """
    return _untraced if _tracer is None else _server_span(_tracer, method, route, headers)


@contextlib.contextmanager
def _server_span(tracer: Tracer, method: str, route: str | None, headers: Mapping[str, str]) -> Iterator[Span]:
    server = _begun(tracer, method, route, headers)
    with _current(server):
        yield server


def _begun(
    tracer: Tracer, method: str, route: str | None, headers: Mapping[str, str], start_time: int | None = None
) -> Span:
    drawn = _drawn.set(_ratio <= 1.0)  # an environment's own sampler has the last word
    try:
        return tracer.start_span(
            f"{method} {route}" if route else method,
            context=_propagator.extract(headers, Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method} | ({"http.route": route} if route else {}),
            start_time=start_time,
        )
    finally:
        _drawn.reset(drawn)


def at_once(
    method: str,
    route: str,
    traceparent: str | None,
    trace: str | None,
    status: int,
    seconds: float,
    *,
    source: str,
) -> str | None:
    """The whole span of a drawn request that was answered without waiting; its trace, None if it is not recorded.

    `traceparent` as for `draw`. `trace` is the one to begin where that names none; None for any. `source` is where the
    answer came from.
    """
    if _tracer is None:
        return None
    before = _trace.set(trace)
    try:
        headers = {TRACEPARENT: traceparent} if traceparent else {}
        server = _begun(_tracer, method, route, headers, time.time_ns() - int(seconds * 1e9))
    finally:
        _trace.reset(before)
    server.set_attribute("hoso24.source", source)
    answered(server, status)
    server.end()
    return trace_id(server) if server.get_span_context().trace_flags.sampled else None


def untraced() -> AbstractContextManager[Span]:
    """In the place of `server_span` for a request that was not drawn."""
    return _untraced


def answered(span: Span, status: int) -> None:
    """Note the status on a server span; from 500 on the span is an error."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


# -- inside of it ----------------------------------------------------------------------------------------------


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
    """An inner span; none where the request is not sampled.

    Give it counts and names of ours, never a code, a key or a person.
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
    """Around what happens within this span, which ends with it."""
    outer = _recording.set(span if span.is_recording() else None)
    try:
        # The text of an exception may quote the request.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        _recording.reset(outer)


def call_span(dependency: str, system: str, operation: str) -> Span | None:
    """The span of one call to a server, to be handed to `call_ended`; None where the request is not sampled.

    `dependency` as in the metrics; `system` and `operation` as OpenTelemetry names them: `redis`, `MGET`.
    """
    if _recording.get() is None or _tracer is None:
        return None
    attributes = {"db.system.name": system, "hoso24.dependency": dependency}
    if operation:
        attributes["db.operation.name"] = operation
    return _tracer.start_span(f"{operation} {dependency}".strip(), kind=SpanKind.CLIENT, attributes=attributes)


def call_ended(span: Span, failure: str) -> None:
    """End it; `failure` is the class of what went wrong, empty where nothing did."""
    if failure:
        span.set_attribute("error.type", failure)
        span.set_status(StatusCode.ERROR)
    span.end()


class Named(Protocol):
    """Something that is fetched for whoever waits for this name."""

    @property
    def name(self) -> str: ...


class Waits:
    """Sampled requests that wait for what is fetched for many at once.

    Each waits in a span of its own; what is fetched together has one that is a child of the first of these and has
    links to all of them, as they have to it. (OpenTelemetry wants a link for everything in a batch, and leaves open
    whether one of them is the parent as well. So there is one trace from request to database, and nearly always it is
    the only one that is sampled.) While nobody who is sampled waits, a batch costs one look at an empty dictionary.
    """

    def __init__(self) -> None:
        self._spans: dict[str, list[Span]] = {}

    def wait(self, what: str, name: str) -> AbstractContextManager[Span]:
        """Around the waiting for `name`, which is not told to anybody."""
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
    """The current trace, or that of a span that is recorded, as 32 hexadecimal digits. Sampled or not."""
    context = (span or get_current_span()).get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else _trace.get()
