"""Spans reach a collector, name routes and never dossiers, and cost nothing when there is no collector."""

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ops import tracing
from ops.middleware import middlewares
from ops.server import Running, start
from tests.ops.test_logs import captured

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}


class Collector:
    """Takes what an OTLP/HTTP exporter sends, as the real one would."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", collector.take)])
    server = await start(Running(app=app))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.port}")
    yield collector
    await server.stop()


@contextlib.asynccontextmanager
async def traced() -> AsyncIterator[ClientSession]:
    """A service with tracing on; by the end all its spans have been sent."""
    traces = tracing.configure("sample")
    app = web.Application(middlewares=middlewares("sample"))
    app.add_routes([web.get("/dossiers/{code}", answer), web.get("/broken/{code}", fail), web.get("/old", move)])
    server = await start(Running(app=app), service="sample")
    async with ClientSession(f"http://127.0.0.1:{server.port}") as client:
        yield client
    await server.stop()
    await asyncio.to_thread(traces.shutdown)


async def answer(_: web.Request) -> web.Response:
    with tracing.span("look up", keys=3):
        logging.getLogger("sample").info("Inside.")
    return web.Response()


async def move(_: web.Request) -> web.Response:
    raise web.HTTPSeeOther("/new?key=HUSH")


async def fail(request: web.Request) -> web.Response:
    with tracing.span("look up"):
        raise RuntimeError(f"no {request.match_info['code']}")


def attributes(span: Span) -> dict[str, str | int]:
    return {attribute.key: attribute.value.string_value or attribute.value.int_value for attribute in span.attributes}


async def test_span_names_the_route_and_not_the_dossier(collector: Collector) -> None:
    async with traced() as client:
        await client.get("/dossiers/H26-UNIQUE?key=HUSH", headers=SAMPLED)
        await client.get("/broken/H26-UNIQUE", headers=SAMPLED)
        await client.get("/nowhere/H26-UNIQUE", headers=SAMPLED)
    servers = {span.name: span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER}
    assert set(servers) == {"GET /dossiers/{code}", "GET /broken/{code}", "GET"}
    assert attributes(servers["GET /dossiers/{code}"]) == {
        "http.request.method": "GET",
        "http.route": "/dossiers/{code}",
        "http.response.status_code": 200,
    }
    assert attributes(servers["GET"]) == {"http.request.method": "GET", "http.response.status_code": 404}
    assert not [body for body in collector.bodies if b"UNIQUE" in body or b"HUSH" in body]


async def test_span_continues_the_callers_trace_and_holds_the_inner_ones(collector: Collector) -> None:
    async with traced() as client:
        await client.get("/dossiers/1", headers=SAMPLED)
    inner, server = collector.spans
    assert server.trace_id.hex() == inner.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == "b7ad6b7169203331"
    assert inner.parent_span_id == server.span_id
    assert (inner.name, attributes(inner)) == ("look up", {"keys": 3})


async def test_failure_marks_both_spans_without_quoting_the_exception(collector: Collector) -> None:
    async with traced() as client:
        await client.get("/broken/H26-UNIQUE", headers=SAMPLED)
    spans = collector.spans
    assert [span.status.code for span in spans] == [2, 2]
    assert [list(span.events) for span in spans] == [[], []]
    assert [span.status.message for span in spans] == ["", ""]


async def test_redirect_is_no_error_and_is_not_quoted(collector: Collector) -> None:
    async with traced() as client:
        await client.get("/old", headers=SAMPLED, allow_redirects=False)
    (span,) = collector.spans
    assert (span.status.code, list(span.events)) == (0, [])
    assert attributes(span)["http.response.status_code"] == 303


async def test_caller_decides_whether_its_trace_is_sampled(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    async with traced() as client:
        await client.get("/dossiers/1", headers=NOT_SAMPLED)
    assert collector.spans == []


@pytest.mark.parametrize(("ratio", "sampled"), [("1", True), ("0", False)])
async def test_ratio_decides_about_traces_that_begin_here(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, ratio: str, sampled: bool
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    async with traced() as client:
        await client.get("/dossiers/1")
    assert bool(collector.spans) is sampled


@pytest.mark.parametrize("ratio", ["often", "7", None])
async def test_one_trace_in_a_hundred_is_the_default(monkeypatch: pytest.MonkeyPatch, ratio: str | None) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER_ARG", raising=False)
    if ratio is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    traces = tracing.configure("sample")
    assert traces.provider is not None
    assert "TraceIdRatioBased{0.01}" in traces.provider.sampler.get_description()
    traces.shutdown()


async def test_named_sampler_is_left_to_the_sdk(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    async with traced() as client:
        await client.get("/dossiers/1", headers=NOT_SAMPLED)
    assert len(collector.spans) == 2


async def test_log_lines_of_a_traced_request_name_the_trace(collector: Collector) -> None:
    with captured() as lines:
        async with traced() as client:
            await client.get("/dossiers/1", headers=NOT_SAMPLED)
        named = [line["logger"] for line in lines() if line.get("trace_id") == TRACE]
    assert named == ["sample", "hoso24.access"]


async def test_hung_collector_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released, asked = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        asked.set()
        await released.wait()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v1/traces", hang)])
    server = await start(Running(app=app))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    traces = tracing.configure("sample")
    with tracing.span("the last one"):
        pass
    began = time.monotonic()
    await asyncio.to_thread(traces.shutdown, 0.2)
    assert time.monotonic() - began < 20
    assert "did not take the last spans" in caplog.text
    await asked.wait()
    released.set()
    for thread in threading.enumerate():
        if thread.name == "flush-traces":
            await asyncio.to_thread(thread.join)
    await server.stop()


async def test_without_an_endpoint_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    traces = tracing.configure("sample")
    assert not traces.active
    with tracing.span("unseen") as span:
        assert not span.is_recording()
        assert tracing.trace_id() is None
    traces.shutdown()


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_standard_switches_turn_tracing_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert not tracing.configure("sample").active


def test_sdk_is_not_even_imported_without_an_endpoint() -> None:
    program = (
        "import sys, ops.server, ops.tracing as t; t.configure('sample'); print('opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={}, timeout=60
    )
    assert done.stdout == "False\n"
