"""Traces over OTLP/HTTP, when an endpoint is set by the standard OTEL_* variables; otherwise nothing at all.

Spans carry route templates, never paths: a path of this service names somebody's dossier. The provider
stays our own instead of becoming the process-wide one, so that no library's instrumentation starts to
export statements and keys of its own accord.
"""

import contextlib
import logging
import os
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ops.metrics import release

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

USUAL_RATIO = 0.01
TRACEPARENT = "traceparent"

_log = logging.getLogger(__name__)
_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None
_ratio = 0.0
_drawn: ContextVar[bool] = ContextVar("drawn", default=False)
_untraced = contextlib.nullcontext(INVALID_SPAN)


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

    None leaves the choice to the SDK; then every request has to ask it, so the share is all of them.
    """
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    if "OTEL_TRACES_SAMPLER" in environ:
        return 1.0, None
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


def draw(traceparent: str | None) -> bool:
    """Whether a request is to have a sampled span: its caller's word, or one of so many of those that bring none.

    For whoever would answer it without a span otherwise. What was drawn is said to `server_span`.
    """
    if _tracer is None:
        return False
    if traceparent:
        return not traceparent.endswith("-00")
    return _ratio >= 1.0 or random.random() < _ratio  # noqa: S311


def server_span(
    method: str, route: str | None, headers: Mapping[str, str], *, drawn: bool = False
) -> AbstractContextManager[Span]:
    """The span of one request, a child of the caller's if the headers name one; `answered` completes it."""
    if _tracer is None:
        return _untraced
    # An environment's own sampler has the last word; nothing was drawn for it.
    _drawn.set(drawn and _ratio < 1.0)
    attributes = {"http.request.method": method} | ({"http.route": route} if route else {})
    return _tracer.start_as_current_span(
        f"{method} {route}" if route else method,
        context=_propagator.extract(headers),
        kind=SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,  # the text of an exception may quote the request
        set_status_on_exception=False,
    )


def answered(span: Span, status: int) -> None:
    """Note the status on a server span; from 500 on the span is an error."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


@contextlib.contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[Span]:
    """An inner span. Give it counts and names of ours, never a code, a key or a person."""
    if _tracer is None:
        yield INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as inner:
        try:
            yield inner
        except Exception:
            inner.set_status(StatusCode.ERROR)
            raise


def trace_id() -> str | None:
    """The current trace, as 32 hexadecimal digits, whether or not it is sampled."""
    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
