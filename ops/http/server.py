"""Starts a service, handles its signals, and stops it without losing a request.

aiohttp closes its listening sockets as soon as it is stopped, while load balancers keep sending for seconds. Here the
readiness probe fails first, and the rest of the stop waits until load balancers have noticed.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop
from aiohttp import hdrs, web

from ops.http.connection import LONGEST_HEADER, LONGEST_LINE, MOST_HEADERS, Protocol
from ops.http.connection_limit import MOST, ConnectionLimit, ask_for_descriptors
from ops.http.expectations import Finish, heed_expectations
from ops.http.listener import EVERYWHERE, Listener
from ops.http.middleware import dress
from ops.http.probes import Admin, Check, Report, State
from ops.observe import logs, redaction, tracing
from ops.observe.redaction import Conceal
from ops.settings import Secret, SettingsError

T = TypeVar("T")

BACKLOG = 4096
"""The listen backlog; the kernel caps it at net.core.somaxconn, which is 4096 by default."""
COLLECT_AFTER = (10_000, 100, 100)
"""The garbage collector's thresholds. With the defaults it took a fifth of the time of a lookup from PostgreSQL.

The first limits the short-lived objects of one collection, during which no request is answered: 45,000 left by failures
took 0.1 s, 0.3 s on a busy machine (a game day without PostgreSQL and Redis, 2026-11-27).
"""
GRACE = 20.0
"""Seconds for running requests to finish once no new ones are accepted."""
STOPPING = 10.0
"""Timeout of ending the main tasks, and then of `close`, in seconds."""

_CONNECTION: dict[str, Any] = {
    "keepalive_timeout": 75.0,
    "access_log": None,  # the middleware writes it
    "auto_decompress": False,  # bodies are at most a megabyte, and a compressed bomb could be as small
    "max_line_size": LONGEST_LINE,
    "max_field_size": LONGEST_HEADER,
    "max_headers": MOST_HEADERS,
}

_log = logging.getLogger(__name__)


class CannotListen(Exception):
    """A port is not available; the text says which and why."""


async def _nothing() -> None:
    """The default of Running.close."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service as its builder returns it.

    `app` is None without a public port. `state` is set when the builder uses it. `tasks` run on the main loop until
    they are cancelled; one that ends by itself, with an exception or without, ends the process. `close` is awaited
    last. `protocol` may replace the connection class by a subclass of Protocol.
    """

    app: web.Application | None = None
    state: State | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    tasks: Sequence[Callable[[], Awaitable[None]]] = ()
    close: Callable[[], Awaitable[object]] = _nothing
    protocol: Callable[..., Protocol] = Protocol


@dataclass(eq=False, kw_only=True)
class Server:
    """A started service. `failed` is set when one of its main tasks has ended by itself."""

    state: State
    failed: asyncio.Event
    admin_port: int
    public_port: int | None
    drain_seconds: float
    takedown: contextlib.AsyncExitStack
    stopping: "asyncio.Task[None] | None" = None

    @property
    def port(self) -> int:
        if self.public_port is None:
            raise LookupError("this service has no public port")
        return self.public_port

    async def stop(self) -> None:
        """Stop; returns when all is closed. Repeated calls wait for the same stop."""
        if self.stopping is None:
            self.stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self.stopping)

    async def _stop(self) -> None:
        """Withdraw readiness, wait `drain_seconds`, then stop everything in reverse order of starting.

        Idle connections stay open until the drain is over, because a request may be on its way on them. A connection
        that is used meanwhile is closed by its answer.
        """
        self.state.draining = True
        if self.public_port is not None:
            _log.info("Draining", extra={"seconds": self.drain_seconds})
            await asyncio.sleep(self.drain_seconds)
        await self.takedown.aclose()
        _log.info("Stopped")


async def start(
    running: Running,
    *,
    service: str = "service",
    host: str = "127.0.0.1",
    port: int | None = 0,
    admin_port: int = 0,
    drain_seconds: float = 0.0,
    reuse_port: bool = False,
    connections: int = MOST,
    state: State | None = None,
    admin: Admin | None = None,
) -> Server:
    """Start on the running loop; port 0 takes a free one. On CannotListen all is closed again.

    `connections`: the connection limit, lowered where the system allows fewer descriptors. A given `admin` is already
    listening, and its owner stops it.
    """
    state = state or running.state or State()
    async with contextlib.AsyncExitStack() as stack:
        # Pushed first, closed last: the probes answer until everything else has stopped.
        own_admin = admin is None
        admin = admin or Admin(service, state)
        if own_admin:
            stack.push_async_callback(admin.stop)
        stack.push_async_callback(_close, running.close)
        if own_admin:
            await _listen(admin.listen(host, admin_port), host, admin_port)
        admin.checks = running.checks
        admin.reports = running.reports
        failed = asyncio.Event()
        _start_tasks(stack, running.tasks, failed)
        public_port = None
        if running.app is not None:
            runner = await _set_up(stack, running.app, service, state)
            limit = ConnectionLimit(service, connections)
            connect = functools.partial(running.protocol, runner.server, service=service, limit=limit, **_CONNECTION)
            public_port = await _open(stack, connect, host, port or 0, reuse_port=reuse_port)
        state.started = True
        return Server(
            state=state,
            failed=failed,
            admin_port=admin.port,
            public_port=public_port,
            drain_seconds=drain_seconds,
            takedown=stack.pop_all(),
        )


def run(
    *,
    service: str,
    build: Callable[[State], Awaitable[Running]],
    host: str = EVERYWHERE,
    port: int | None = None,
    admin_port: int,
    drain_seconds: float = 5.0,
    log_level: str = "info",
    log_hash_key: Secret | None = None,
    conceal: Conceal = str,
    reuse_port: bool = False,
    connections: int = MOST,
) -> None:
    """Run a service until SIGTERM or SIGINT, from the first log line to the last span.

    `log_hash_key` and `conceal` configure the log's redaction (ops/observe/redaction.py). The admin port answers before
    `build` is called. Returns after a clean stop; raises SystemExit(2) for invalid settings or unavailable ports, and
    SystemExit(1) when the service failed.
    """
    try:
        log_handler = logs.configure(service, log_level, conceal=conceal)
    except ValueError:
        raise SystemExit(_complain(f"{log_level!r} is not a log level.")) from None
    redaction.use_key(None if log_hash_key is None else log_hash_key.reveal())
    traces = tracing.configure(service)
    ask_for_descriptors(connections)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(
                _run(
                    service,
                    build,
                    host,
                    admin_port,
                    port=port,
                    drain_seconds=drain_seconds,
                    reuse_port=reuse_port,
                    connections=connections,
                )
            )
    except (CannotListen, SettingsError) as fault:
        code = _complain(str(fault))
    except Exception:
        _log.exception("The service failed")
        code = 1
    finally:
        # The loop's signal handlers are gone; a late signal must not lose the last spans and log lines.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        traces.shutdown()
        log_handler.close()
    if code:
        raise SystemExit(code)


async def _run(
    service: str, build: Callable[[State], Awaitable[Running]], host: str, admin_port: int, **options: Any
) -> int:
    stop = _on_signals()
    state = State()

    async def begin() -> Server:
        running = await build(state)
        return await start(running, service=service, host=host, state=state, admin=admin, **options)

    async with contextlib.AsyncExitStack() as stack:
        admin = Admin(service, state)
        stack.push_async_callback(admin.stop)
        await _listen(admin.listen(host, admin_port), host, admin_port)
        server = await _unless(stop, begin())
        if server is None:
            return 0
        _settle_down()
        _log.info("Ready", extra={"port": server.public_port, "admin_port": server.admin_port})
        await _first(stop.wait(), server.failed.wait())
        code = 1 if server.failed.is_set() else 0
        await server.stop()
        return code


def _settle_down() -> None:
    """Exempt long-lived objects from garbage collection, and collect rarely, because walking large caches is slow.

    Reference counting frees nearly every object of a request. The collector is needed only for the few cycles that
    tracebacks leave, and those can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _complain(sentence: str) -> int:
    """Print what the operator has to correct, without a traceback, and return the exit status."""
    print(sentence, file=sys.stderr)
    return 2


def _on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. A second signal is ignored, so that no request is lost."""
    stop = asyncio.Event()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            _log.warning("Ignored %s: the process is stopping already", number.name)
        else:
            _log.info("Received %s", number.name)
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked, number)
    return stop


async def _set_up(stack: contextlib.AsyncExitStack, app: web.Application, service: str, state: State) -> web.AppRunner:
    finish = _dresser(state)
    app.on_response_prepare.append(finish)
    # aiohttp waits this long for handlers, and once more after it has stopped reading bodies.
    runner = web.AppRunner(app, shutdown_timeout=GRACE / 2)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    heed_expectations(runner, service, finish)
    return runner


async def _open(
    stack: contextlib.AsyncExitStack,
    connect: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    reuse_port: bool,
) -> int:
    listener = Listener(connect)
    stack.callback(listener.close)
    await _listen(listener.open(host, port, backlog=BACKLOG, reuse_port=reuse_port), host, port)
    return int(listener.sockets[0].getsockname()[1])


def _dresser(state: State) -> Finish:
    async def dress_and_drain(request: web.BaseRequest, response: web.StreamResponse) -> None:
        dress(response)
        # No upgrade is supported, and aiohttp drops the rest of a segment with an Upgrade request: the next bytes
        # may start in the middle of a message.
        if state.draining or request._message.upgrade:
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    return dress_and_drain


async def _listen(opening: Awaitable[T], host: str, port: int) -> T:
    where = f"Port {port}" if host == EVERYWHERE else f"Port {port} on {host}"
    try:
        return await opening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"{where} is taken by another process: stop it, or choose another port.") from None
        raise CannotListen(f"{where} cannot be opened: {error.strerror or error}.") from None


def _start_tasks(
    stack: contextlib.AsyncExitStack, tasks: Sequence[Callable[[], Awaitable[None]]], failed: asyncio.Event
) -> None:
    async def watch(task: Callable[[], Awaitable[None]]) -> None:
        name = getattr(task, "__qualname__", repr(task))
        try:
            await task()
            _log.error("The main task %s has ended, though it should run until it is cancelled", name)
        except Exception:
            _log.exception("The main task %s failed", name)
        finally:
            failed.set()  # also when other code than _cancel cancelled the task

    watched = [asyncio.create_task(watch(task)) for task in tasks]
    stack.push_async_callback(_cancel, watched)


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=STOPPING)
        if running:
            _log.error("Main tasks did not end within %g s of being cancelled", STOPPING, extra={"tasks": len(running)})


async def _close(close: Callable[[], Awaitable[object]]) -> None:
    """Run `close` within STOPPING seconds; a failure is logged, and the stop continues."""
    try:
        async with asyncio.timeout(STOPPING):
            await close()
    except Exception:
        _log.exception("Closing failed")


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work; None if `stop` is set first, which cancels the work."""
    task = asyncio.create_task(work)
    await _first(stop.wait(), asyncio.wait([task]))
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _first(*events: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of the events, and cancel the others."""
    tasks = [asyncio.create_task(event) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
