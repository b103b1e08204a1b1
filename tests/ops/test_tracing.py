"""Spans reach a collector, name routes and never dossiers, and cost nothing when there is no collector."""

import asyncio
import contextlib
import logging
import random
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
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from ops.http import access, middleware
from ops.http.middleware import Trust, middlewares
from ops.http.server import Running, start
from ops.observe import metrics, tracing
from ops.observe.per_second import PerSecond
from tests.ops.test_logs import captured

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}


class Collector:
    """Takes what an OTLP/HTTP exporter sends, as the real one would."""

    def __init__(self) -> None:
        self.url = ""
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
    collector.url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    await server.stop()


@contextlib.asynccontextmanager
async def traced(trusts: Trust = lambda _: True, log_share: float = 1.0) -> AsyncIterator[ClientSession]:
    """A service with tracing on; by the end all its spans have been sent."""
    traces = tracing.configure("sample")
    app = web.Application(middlewares=middlewares("sample", trusts=trusts, log_share=log_share))
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
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value") or "string_value")
        for attribute in span.attributes
    }


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


@pytest.mark.parametrize("ratio", ["0", "1"])
async def test_stranger_says_nothing_about_traces(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, ratio: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    async with traced(trusts=middleware.no_trust) as client:
        await client.get("/dossiers/1", headers=SAMPLED | {"tracestate": "theirs=HUSH"})
        await client.get("/dossiers/1", headers=NOT_SAMPLED)
    servers = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert len(servers) == 2 * int(ratio)
    assert not [span for span in collector.spans if span.trace_id.hex() == TRACE or "HUSH" in span.trace_state]
    assert not [span for span in servers if span.parent_span_id]


@pytest.mark.parametrize("traceparent", ["nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", "00-0af7-b7ad-01"])
@pytest.mark.parametrize("ratio", ["0", "1"])
async def test_malformed_traceparent_is_none(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, traceparent: str, ratio: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    async with traced() as client:
        await client.get("/dossiers/1", headers={"traceparent": traceparent})
    assert len(collector.spans) == 2 * int(ratio)


async def test_trace_that_begins_here_is_found_by_the_id_of_the_answer(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    async with traced() as client:
        own = (await client.get("/dossiers/1")).headers["X-Request-Id"]
        await client.get("/dossiers/1", headers={"X-Request-Id": "0123456789abcdef"})
    first, second = [span.trace_id.hex() for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert first == tracing.of_request(own) == f"{'0' * 16}{own}"
    assert "0123456789abcdef" not in second  # no stranger chooses where its trace goes


def test_share_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    random.seed(24)
    monkeypatch.setattr(tracing, "_drawn_traces", PerSecond(1000, lambda: 1.0))
    traces = tracing.configure("sample")
    assert 200 < sum(tracing.draw(None) for _ in range(1000)) < 300
    assert tracing.draw(SAMPLED["traceparent"])
    assert tracing.draw(f"00-{TRACE}-b7ad6b7169203331-03")
    assert not tracing.draw(NOT_SAMPLED["traceparent"])
    assert not tracing.draw(f"00-{TRACE}-b7ad6b7169203331-02")  # random, and not sampled
    traces.shutdown()


@pytest.mark.parametrize(("share", "drawn"), [("0.9", tracing.DRAWN_TRACES), ("1", 1000)])
def test_a_second_has_so_many_traces_of_our_own_and_no_more_unless_all_are_wanted(
    monkeypatch: pytest.MonkeyPatch, share: str, drawn: int
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    monkeypatch.setattr(tracing, "_drawn_traces", PerSecond(tracing.DRAWN_TRACES, lambda: 1.0))
    traces = tracing.configure("sample")
    assert sum(tracing.draw(None) for _ in range(1000)) == drawn
    assert all(tracing.draw(SAMPLED["traceparent"]) for _ in range(1000))  # whoever calls us has drawn already
    traces.shutdown()


async def test_request_that_is_not_sampled_makes_no_spans_to_throw_away(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    async with traced() as client:
        monkeypatch.setattr(tracing, "_server_span", None)
        monkeypatch.setattr(tracing, "_span", None)
        assert (await client.get("/dossiers/1")).status == 200


# -- the log and the metrics say which trace ---------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True], ids=["failed", "slow"])
@pytest.mark.parametrize("headers", [{}, {"X-Request-Id": "desk-7"}, NOT_SAMPLED], ids=["own", "given", "traced"])
async def test_bad_request_that_is_not_sampled_leaves_one_line_with_its_trace(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], slow: bool
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setattr(logging.getLogger("sample"), "disabled", True)
    if slow:
        monkeypatch.setattr(access, "SLOW", 0.0)
    with captured() as lines:
        async with traced(log_share=0.0) as client:
            answer = await client.get("/dossiers/1" if slow else "/broken/1", headers=headers)
        (line,) = [line for line in lines() if "request_id" in line]
    assert line["status"] == answer.status == (200 if slow else 500)
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert len(line["trace_id"]) == 32
    assert (line["trace_id"] == TRACE) is (headers is NOT_SAMPLED)
    assert (line["trace_id"] == tracing.of_request(line["request_id"])) is (headers == {})
    assert ("exception" in line) is not slow


async def test_good_quick_request_that_is_not_drawn_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setattr(logging.getLogger("sample"), "disabled", True)
    with captured() as lines:
        async with traced(log_share=0.0) as client:
            await client.get("/dossiers/1")
        assert not [line for line in lines() if "request_id" in line]


def exemplars() -> list[Exemplar]:
    page, content_type = metrics.exposition("sample", "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    return [
        sample.exemplar
        for family in text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None and sample.labels.get("route") == "/dossiers/{code}"
    ]


async def test_sampled_request_is_the_exemplar_of_its_bucket(collector: Collector) -> None:
    async with traced() as client:
        await client.get("/dossiers/1", headers=NOT_SAMPLED | {"traceparent": NOT_SAMPLED["traceparent"]})
        before = [exemplar.labels["trace_id"] for exemplar in exemplars()]
        sampled = TRACE[::-1]
        await client.get("/dossiers/1", headers={"traceparent": f"00-{sampled}-b7ad6b7169203331-01"})
    assert sampled not in before
    assert sampled in [exemplar.labels["trace_id"] for exemplar in exemplars()]


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
    with tracing.server_span("GET", "/the/last/one", {}):
        pass
    began = time.monotonic()
    await asyncio.to_thread(traces.shutdown, 0.2)
    assert time.monotonic() - began < 20
    assert "did not accept the last spans" in caplog.text
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
    assert not tracing.draw(SAMPLED["traceparent"])
    with tracing.server_span("GET", "/unseen", SAMPLED), tracing.span("unseen") as span:
        assert not span.is_recording()
        assert tracing.trace_id() is None
    traces.shutdown()


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_standard_switches_turn_tracing_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert not tracing.configure("sample").active


@pytest.mark.servers
def test_sdk_is_not_even_imported_without_an_endpoint() -> None:
    program = (
        "import sys, ops.http.server, ops.observe.tracing as t; t.configure('sample'); "
        "print('opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={}, timeout=60
    )
    assert done.stdout == "False\n"
