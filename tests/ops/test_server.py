"""A service starts in order, stops in order, and loses no request on the way."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from prometheus_client import REGISTRY

import ops.http.server
from ops.errors import AddressTooLong, HeadTooLarge, Malformed, Refusal
from ops.http.connection import Protocol
from ops.http.middleware import Handler, middlewares
from ops.http.server import CannotListen, Running, Server, start
from tests.ops.test_middleware import poll

SERVICE = """
import asyncio, pathlib, sys, time
from aiohttp import web
from ops.http import server
from ops.http.middleware import middlewares
from ops.settings import SettingsError

async def quick(request):
    return web.Response(text="quick")

async def slow(request):
    await asyncio.sleep(2.5)
    return web.Response(text="slow")

async def block(request):
    began = time.monotonic()
    while time.monotonic() < began + (1.5 if pathlib.Path(request.query["until"]).exists() else 60):
        pass
    return web.Response(text="blocked")

async def build(state):
    what = sys.argv[1]
    if what == "unsettled":
        raise SettingsError(["HOSO24_ONE: is required", "HOSO24_TWO: is required"])
    if what == "broken":
        raise RuntimeError("wrong schema")
    if what == "waiting":
        print("waiting", flush=True)
        await asyncio.Event().wait()
    async def run():
        await asyncio.sleep(0.1)
        raise RuntimeError("lost the lock")
    async def well():
        pass
    async def close():
        print("closed", flush=True)
    app = web.Application(middlewares=middlewares("sample"))
    app.add_routes([web.get("/quick", quick), web.get("/slow", slow), web.get("/block", block)])
    tasks = [run] if what == "crashing" else []
    return server.Running(app=app, tasks=tasks, checks={"well": well}, close=close)

server.run(service="sample", build=build, host="127.0.0.1", port=int(sys.argv[2]), admin_port=int(sys.argv[3]),
           drain_seconds=float(sys.argv[4]), log_level=sys.argv[5])
"""


@dataclass
class Process:
    """The service above in a process of its own."""

    process: asyncio.subprocess.Process
    seen: list[str] = field(default_factory=list)

    async def line(self, holding: str) -> str:
        """The next line of output with this text in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while raw := await self.process.stdout.readline():
                self.seen.append(raw.decode())
                if holding in self.seen[-1]:
                    return self.seen[-1]
        raise AssertionError(f"no {holding!r} in {self.seen}")

    async def ports(self) -> tuple[int, int]:
        ready = json.loads(await self.line('"Ready"'))
        return ready["port"], ready["admin_port"]

    async def end(self) -> tuple[int, str]:
        """The exit code, and what was printed on stderr. The rest of the output is in `seen`."""
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        self.seen += out.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode, err.decode()


@contextlib.asynccontextmanager
async def process(
    what: str = "well", port: int = 0, admin_port: int = 0, drain: float = 0.0, level: str = "info"
) -> AsyncIterator[Process]:
    arguments = [what, str(port), str(admin_port), str(drain), level]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SERVICE, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        limit=2**20,
    )
    try:
        yield Process(child)
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


async def probe(client: ClientSession, port: int, path: str) -> int:
    async with client.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status


async def unready(client: ClientSession, admin_port: int) -> None:
    async with asyncio.timeout(10):
        while await probe(client, admin_port, "/readyz") != 503:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)


@dataclass
class Caller:
    """A client that keeps its connection until it is told to close it, and never asks twice."""

    port: int
    statuses: list[bytes] = field(default_factory=list)
    reopened: int = 0
    told_to_close: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[str] = field(default_factory=list)

    async def ask_until(self, window_over: asyncio.Event) -> None:
        """Ask one thing after the other; the last one is slow, and begins before the window ends."""
        connection = None
        while not window_over.is_set():
            connection = await self.ask("/quick", connection)
        connection = await self.ask("/slow", connection)
        if connection is not None:
            connection[1].close()

    async def ask(
        self, path: str, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", self.port)
                self.reopened += 1
            reader, writer = connection
            writer.write(f"GET {path} HTTP/1.1\r\nHost: sample\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(len(path) - 1)
        except (OSError, EOFError) as failure:
            self.failures.append(repr(failure))
            return None
        self.statuses.append(head.split()[1])
        assert body.decode() == path[1:]
        if b"\r\nConnection: close\r\n" not in head:
            return connection
        self.told_to_close.set()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return None


@pytest.mark.servers
async def test_drain_loses_no_request() -> None:
    callers = 20
    async with process(drain=5.0) as service, ClientSession() as client:
        port, admin_port = await service.ports()
        drain_output = asyncio.create_task(service.line('"Stopped"'))
        window_over = asyncio.Event()
        crowd = [Caller(port) for _ in range(callers)]
        asking = [asyncio.create_task(caller.ask_until(window_over)) for caller in crowd]
        async with asyncio.timeout(30):
            await poll(lambda: sum(len(caller.statuses) for caller in crowd) >= 10 * callers)
            assert not [caller for caller in crowd if caller.told_to_close.is_set()]
            service.process.send_signal(signal.SIGTERM)
            await unready(client, admin_port)
            assert await probe(client, admin_port, "/livez") == 200
            service.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*[caller.told_to_close.wait() for caller in crowd])
            window_over.set()
            await asyncio.gather(*asking)
        await drain_output
        code, errors = await service.end()
    assert [caller.failures for caller in crowd] == [[]] * callers
    assert {status for caller in crowd for status in caller.statuses} == {b"200"}
    assert min(caller.reopened for caller in crowd) >= 2
    assert (code, errors) == (0, "")
    assert [line for line in service.seen if "Ignored SIGTERM" in line]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.servers
async def test_idle_connection_survives_the_window_and_is_closed_after_it() -> None:
    async with process(drain=5.0) as service, ClientSession() as client:
        port, admin_port = await service.ports()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /quick HTTP/1.1\r\nHost: sample\r\n\r\n")
        await reader.readuntil(b"quick")
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await unready(client, admin_port)
            writer.write(b"GET /quick HTTP/1.1\r\nHost: sample\r\n\r\n")
            assert b"Connection: close" in await reader.read()
        writer.close()
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await idle.read() == b""
        idle_writer.close()
        assert (await service.end())[0] == 0


@pytest.mark.servers
async def test_probes_answer_while_the_main_loop_is_blocked(tmp_path: Path) -> None:
    async with process() as service, ClientSession() as client:
        port, admin_port = await service.ports()
        enough = tmp_path / "enough"
        blocked = asyncio.create_task(probe(client, port, f"/block?until={enough}"))
        answers = 0
        timeouts = 0
        while not blocked.done():
            async with asyncio.timeout(10):
                assert await probe(client, admin_port, "/livez") == 200
                assert await probe(client, admin_port, "/readyz") == 200
            if not timeouts:
                async with client.get(f"http://127.0.0.1:{admin_port}/health") as response:
                    timeouts = (await response.text()).count("timeout")
            answers += not blocked.done()
            if answers > 2 and timeouts:
                enough.touch()
                await blocked
        assert answers > 2
        assert timeouts == 1
        async with client.get(f"http://127.0.0.1:{admin_port}/metrics") as response:
            (lag,) = [line for line in (await response.text()).splitlines() if line.startswith("hoso24_loop_lag")]
        assert float(lag.split()[1]) > 1


@pytest.mark.servers
async def test_main_task_that_crashes_ends_the_process_with_one() -> None:
    async with process("crashing") as service:
        code, _ = await service.end()
    assert code == 1
    (crash,) = [json.loads(line) for line in service.seen if "lost the lock" in line]
    assert crash["level"] == "error"
    assert "run failed" in crash["message"]
    assert "closed" in "".join(service.seen)


@pytest.mark.servers
async def test_settings_that_cannot_be_used_are_told_without_a_traceback() -> None:
    async with process("unsettled") as service:
        code, errors = await service.end()
    assert (code, errors) == (2, "HOSO24_ONE: is required\nHOSO24_TWO: is required\n")


@pytest.mark.servers
async def test_builder_that_fails_is_logged_in_full() -> None:
    async with process("broken") as service:
        code, errors = await service.end()
    assert (code, errors) == (1, "")
    assert [line for line in service.seen if "RuntimeError: wrong schema" in line]


@pytest.mark.servers
async def test_unknown_log_level_is_told() -> None:
    async with process(level="loud") as service:
        assert await service.end() == (2, "'loud' is not a log level.\n")


@pytest.mark.servers
@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_taken_port_is_told_in_one_sentence(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        async with process(**{which: number}) as service:
            code, errors = await service.end()
    reason = f"Port {number} on 127.0.0.1 is taken by another process: stop it, or choose another port.\n"
    assert (code, errors) == (2, reason)


@pytest.mark.servers
async def test_signal_while_building_ends_the_process_in_peace() -> None:
    async with process("waiting") as service:
        await service.line("waiting")
        service.process.send_signal(signal.SIGINT)
        assert await service.end() == (0, "")


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def application(*routes: web.RouteDef) -> web.Application:
    app = web.Application(middlewares=middlewares("server"))
    app.add_routes([web.get("/hello", hello), *routes])
    return app


@contextlib.asynccontextmanager
async def started(running: Running, **options: Any) -> AsyncIterator[Server]:
    server = await start(running, service="server", **options)
    try:
        yield server
    finally:
        await server.stop()


async def test_what_starts_last_stops_first_and_once() -> None:
    events: list[str] = []
    release = asyncio.Event()

    async def context(_: web.Application) -> AsyncIterator[None]:
        events.append("app up")
        yield
        events.append("app down")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            events.append("task cancelled")

    async def close() -> None:
        events.append("closed")

    async def answer_late(_: web.Request) -> web.Response:
        events.append("asked")
        await release.wait()
        events.append("answered")
        return web.Response(text="late")

    app = application(web.get("/late", answer_late))
    app.cleanup_ctx.append(context)
    server = await start(Running(app=app, tasks=[work], close=close))
    async with ClientSession() as client:
        late = asyncio.create_task(probe(client, server.port, "/late"))
        await poll(lambda: "asked" in events)
        stopping = asyncio.gather(server.stop(), server.stop())
        await poll(lambda: server.state.draining)
        release.set()
        await stopping
        assert await late == 200
    assert events == ["app up", "asked", "answered", "app down", "task cancelled", "closed"]


async def test_service_without_a_public_port_has_probes_and_does_not_wait() -> None:
    server = await start(Running(), drain_seconds=3600)
    async with ClientSession() as client:
        assert await probe(client, server.admin_port, "/readyz") == 200
    with pytest.raises(LookupError):
        server.port  # noqa: B018 - asking is the test
    async with asyncio.timeout(30):
        await server.stop()


async def test_failed_start_closes_what_it_has_opened() -> None:
    events: list[str] = []

    async def context(_: web.Application) -> AsyncIterator[None]:
        events.append("app up")
        yield
        events.append("app down")

    async def close() -> None:
        events.append("closed")

    app = application()
    app.cleanup_ctx.append(context)
    async with started(Running(app=application())) as first:
        with pytest.raises(CannotListen, match="is taken"):
            await start(Running(app=app, close=close), port=first.port)
        with pytest.raises(CannotListen, match="is taken"):
            await start(Running(app=application(), close=close), admin_port=first.admin_port)
    assert events == ["app up", "app down", "closed", "closed"]


async def test_two_processes_may_share_a_port_when_asked_to() -> None:
    async with (
        started(Running(app=application()), reuse_port=True) as first,
        started(Running(app=application()), port=first.port, reuse_port=True) as second,
    ):
        assert first.port == second.port


async def test_task_that_ends_by_itself_fails_the_service(caplog: pytest.LogCaptureFixture) -> None:
    async def finish() -> None:
        return None

    async with started(Running(tasks=[finish])) as server:
        async with asyncio.timeout(10):
            await server.failed.wait()
    assert "finish has ended, though it should run" in caplog.text


async def test_task_that_is_cancelled_from_outside_fails_the_service() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async with started(Running(tasks=[cancelled])) as server, asyncio.timeout(10):
        await server.failed.wait()


async def test_close_that_fails_does_not_stop_the_stopping(caplog: pytest.LogCaptureFixture) -> None:
    async def close() -> None:
        raise RuntimeError("no way out")

    server = await start(Running(close=close))
    await server.stop()
    assert "no way out" in caplog.text
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", server.admin_port)


async def test_what_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(ops.http.server, "STOPPING", 0.1)
    release = asyncio.Event()

    async def be_deaf() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    server = await start(Running(tasks=[be_deaf], close=asyncio.Event().wait))
    async with asyncio.timeout(30):
        await server.stop()
    assert "Main tasks did not end" in caplog.text
    assert "Closing failed" in caplog.text
    release.set()


async def test_streamed_answer_is_dressed_and_told_to_close_while_draining() -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"part")
        return answer

    async with (
        started(Running(app=application(web.get("/stream", stream)))) as server,
        ClientSession(f"http://127.0.0.1:{server.port}") as client,
    ):
        async with client.get("/stream") as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["X-Request-Id"]
            assert "Connection" not in response.headers
        server.state.draining = True
        async with client.get("/stream") as response:
            assert response.headers["Connection"] == "close"
        async with client.get("/nowhere") as response:
            assert response.headers["Connection"] == "close"


def counted(status: int) -> float:
    labels = {"service": "server", "method": "OTHER", "route": "unmatched", "status": str(status)}
    return REGISTRY.get_sample_value("hoso24_http_requests_total", labels) or 0.0


@pytest.mark.parametrize(
    ("bytes_sent", "refusal", "status"),
    [
        (b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n", Malformed, 400),
        (b"BREW /pot HTTP/1.1\r\n\r\n", Malformed, 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", AddressTooLong, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", HeadTooLarge, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", HeadTooLarge, 431),
    ],
    ids=["tls", "method", "line", "header", "headers"],
)
async def test_what_the_parser_refuses_is_a_problem_too(
    bytes_sent: bytes, refusal: type[Refusal], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted(status)
    async with started(Running(app=application())) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(bytes_sent)
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert head.startswith(b"HTTP/1.0 %d " % status)
    assert b"Content-Type: application/problem+json" in head
    assert b"nosniff" in head
    assert b"aiohttp" not in head
    problem = json.loads(body)
    assert problem.pop("request_id")
    assert problem.pop("detail", None) == ("This is not a valid HTTP/1.1 request." if status == 400 else None)
    assert problem == {
        "type": f"urn:hoso24:problem:{refusal.code}",
        "title": refusal.title,
        "status": status,
        "code": refusal.code,
    }
    assert counted(status) == before + 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_exception_outside_the_middlewares_is_a_problem_too(caplog: pytest.LogCaptureFixture) -> None:
    @web.middleware
    async def break_down(request: web.Request, handler: Handler) -> web.StreamResponse:
        raise RuntimeError("password=hush")

    app = web.Application(middlewares=[break_down])
    app.add_routes([web.get("/hello", hello)])
    async with (
        started(Running(app=app)) as server,
        ClientSession(f"http://127.0.0.1:{server.port}") as client,
        client.get("/hello", headers={"Accept": "text/html"}) as response,
    ):
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "hush" not in await response.text()
    assert "password=hush" in caplog.text


async def test_connection_class_may_be_replaced() -> None:
    made: list[Protocol] = []

    class Remembered(Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            super().connection_made(transport)

    async with started(Running(app=application(), protocol=Remembered)) as server, ClientSession() as client:
        assert await probe(client, server.port, "/hello") == 200
    assert len(made) == 1


async def test_render_sees_the_refusals_of_the_running_service() -> None:
    def render(_: web.Request, refusal: Refusal) -> web.Response:
        return web.Response(text=refusal.code, status=404)

    app = web.Application(middlewares=middlewares("server", render=render))
    async with (
        started(Running(app=app)) as server,
        ClientSession(f"http://127.0.0.1:{server.port}") as client,
        client.get("/nowhere") as response,
    ):
        assert await response.text() == "not_found"
