"""The admin port: liveness, readiness, health, metrics and reports, on a thread and an event loop of its own.

A probe that queues behind the traffic fails when the process is busiest, which would then be restarted. So the admin
port shares only a State with the main loop.
"""

import asyncio
import collections
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import hdrs, web

from ops.http.expectations import heed_expectations
from ops.http.listener import listening_sockets
from ops.http.middleware import dress
from ops.observe import metrics
from ops.settings import masked

Check = Callable[[], Awaitable[object]]
Report = Callable[[Mapping[str, str]], object]
"""A report of a process on itself: from the query's parameters to a JSON-encodable object."""

STUCK_AFTER = 30.0
CHECKS_DEADLINE = 1.0
TICK = 0.05

_LAGS_KEPT = round(15.0 / TICK)
_STANDING = 4
"""Turns over which the minimum lateness counts, as in CoDel: a single late turn refuses no lookup."""
_json = msgspec.json.Encoder(enc_hook=str).encode


class State:
    """The state of this process for the probes. Written by the main loop, read by any thread."""

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.halted = False
        """Set by a service that runs and refuses its work; its health report says why. Then it is not ready."""
        self.last_turn = time.monotonic()
        self.lag = 0.0
        """Lateness of the last turn of the main loop, in seconds."""
        self._lags: collections.deque[tuple[float, float]] = collections.deque(maxlen=_LAGS_KEPT)

    @property
    def ready(self) -> bool:
        return self.started and not self.draining and not self.halted

    @property
    def stuck(self) -> bool:
        return time.monotonic() - self.last_turn > STUCK_AFTER

    @property
    def worst_lag(self) -> float:
        """The worst lateness within the last 15 seconds, including the current turn's."""
        return max(0.0, self._overdue, *(lateness for _, lateness in self._turns))

    def late_since(self, moment: float) -> float:
        """The worst lateness, in seconds, of a turn that ended after this moment (monotonic), or of the current one.

        A call that waited since then may have waited for this process and not for its server.
        """
        worst = max(0.0, self._overdue)
        for ended, lateness in reversed(self._turns):
            if ended < moment:
                break
            worst = max(worst, lateness)
        return worst

    @property
    def standing_lag(self) -> float:
        """The minimum lateness of the last _STANDING turns, in seconds: above 0 for a standing queue only."""
        last = [lateness for _, lateness in self._turns[-_STANDING:]]
        return min(last) if len(last) == _STANDING else 0.0

    def turned(self, lateness: float) -> None:
        """Record a turn of the main loop and its lateness, in seconds."""
        self.lag = lateness
        self.last_turn = time.monotonic()
        self._lags.append((self.last_turn, lateness))

    @property
    def _turns(self) -> list[tuple[float, float]]:
        # Copied atomically: the main loop may append while another thread iterates.
        return list(self._lags)

    @property
    def _overdue(self) -> float:
        return time.monotonic() - self.last_turn - TICK


async def tick(state: State) -> None:
    """Run on the main loop until it ends: measure its lateness twenty times a second, and provide the metrics of its
    lateness and tasks.
    """
    loop = asyncio.get_running_loop()
    metrics.LOOP_LAG.set_function(lambda: state.worst_lag)
    metrics.TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
    while True:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        state.turned(max(0.0, time.monotonic() - due))


class Admin:
    """The admin port of a process. Created on the main loop, which it watches from its own thread until stopped.

    `checks` and `reports` may be set later.
    """

    def __init__(self, service: str, state: State) -> None:
        self.checks: Mapping[str, Check] = {}
        self.reports: Mapping[str, Report] = {}
        self.port = 0
        self._service = service
        self._state = state
        self._main = asyncio.get_running_loop()
        self._ticker = self._main.create_task(tick(state))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="admin", daemon=True)
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        self._thread.start()

    async def listen(self, host: str, port: int) -> None:
        """Start listening. Raises OSError if the port is not available."""
        await self._elsewhere(self._listen(host, port))

    async def stop(self) -> None:
        """Stop listening, and end the thread."""
        self._ticker.cancel()
        await self._elsewhere(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _elsewhere(self, work: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _listen(self, host: str, port: int) -> None:
        await self._runner.setup()
        heed_expectations(self._runner, self._service, _dressed)
        for listening in await listening_sockets(host, port):
            await web.SockSite(self._runner, listening).start()
            self.port = listening.getsockname()[1]

    def _application(self) -> web.Application:
        application = web.Application()
        application.on_response_prepare.append(_dressed)
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/startupz", self._startupz),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/reports/{name}", self._report),
            ]
        )
        return application

    async def _livez(self, _: web.Request) -> web.Response:
        # True while draining: a restart now would lose the requests that the drain is for.
        return _verdict(not self._state.stuck, "stuck")

    async def _readyz(self, _: web.Request) -> web.Response:
        # Independent of PostgreSQL and Redis: the process serves cached answers while both are unreachable.
        state = self._state
        return _verdict(state.ready, "draining" if state.draining else "halted" if state.halted else "starting")

    async def _startupz(self, _: web.Request) -> web.Response:
        return _verdict(self._state.started, "starting")

    async def _metrics(self, request: web.Request) -> web.Response:
        page, content_type = metrics.exposition(self._service, ",".join(request.headers.getall(hdrs.ACCEPT, ())))
        return web.Response(body=page, headers={"Content-Type": content_type, hdrs.VARY: hdrs.ACCEPT})

    async def _report(self, request: web.Request) -> web.Response:
        report = self.reports.get(request.match_info["name"])
        if report is None:
            raise web.HTTPNotFound
        made = asyncio.run_coroutine_threadsafe(_made(report, dict(request.query)), self._main)
        async with asyncio.timeout(CHECKS_DEADLINE):
            answer = await asyncio.wrap_future(made)
        return web.Response(body=_json(answer), content_type="application/json")

    async def _health(self, request: web.Request) -> web.Response:
        findings = await self._examine()
        good = all(finding["status"] == "ok" for finding in findings.values())
        report = {
            "service": self._service,
            "status": "ok" if good else "degraded",
            "started": self._state.started,
            "draining": self._state.draining,
            "loop_lag_seconds": round(self._state.worst_lag, 4),
            "checks": findings,
        }
        status = 503 if request.query.get("strict") == "1" and not good else 200
        return web.Response(body=_json(report), content_type="application/json", status=status)

    async def _examine(self) -> dict[str, dict[str, object]]:
        """Run all checks concurrently, on the main loop that owns the connections, within CHECKS_DEADLINE."""
        tasks = {name: asyncio.create_task(self._ask(check)) for name, check in self.checks.items()}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=CHECKS_DEADLINE)
        findings = {name: _finding(task) for name, task in tasks.items()}
        for task in tasks.values():
            task.cancel()
        return findings

    async def _ask(self, check: Check) -> dict[str, object]:
        began = time.perf_counter()
        detail = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_called(check), self._main))
        answer: dict[str, object] = {"status": "ok", "seconds": round(time.perf_counter() - began, 4)}
        return answer if detail is None else {**answer, "detail": detail}


async def _dressed(_: web.BaseRequest, response: web.StreamResponse) -> None:
    dress(response)


async def _called(check: Check) -> object:
    return await check()


async def _made(report: Report, parameters: Mapping[str, str]) -> object:
    return report(parameters)


def _finding(task: "asyncio.Task[dict[str, object]]") -> dict[str, object]:
    if not task.done():
        return {"status": "timeout"}
    with contextlib.suppress(asyncio.CancelledError):
        error = task.exception()
        if error is None:
            return task.result()
        message = masked(str(error)).partition("\n")[0][:120]
        return {"status": "failed", "error": f"{type(error).__name__}: {message}".rstrip(": ")}
    return {"status": "failed", "error": "CancelledError"}


def _verdict(good: bool, otherwise: str) -> web.Response:
    return web.Response(text="ok\n" if good else f"{otherwise}\n", status=200 if good else 503)
