"""Alive, ready and healthy are three promises; the admin port keeps each of them by itself."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ops.http import probes
from ops.http.listener import EVERYWHERE
from ops.http.probes import Admin, State


class Frozen(State):
    """A process whose main loop does not come round any more."""

    def turned(self, lateness: float) -> None:
        pass


@contextlib.asynccontextmanager
async def watching(state: State, **checks: probes.Check) -> AsyncIterator[ClientSession]:
    admin = Admin("sample", state)
    admin.checks = checks
    await admin.listen("127.0.0.1", 0)
    async with ClientSession(f"http://127.0.0.1:{admin.port}") as client:
        yield client
    await admin.stop()


async def status(client: ClientSession, path: str) -> int:
    async with client.get(path) as response:
        return response.status


async def health(client: ClientSession, query: str = "") -> tuple[int, dict[str, Any]]:
    async with client.get(f"/health{query}") as response:
        return response.status, await response.json()


async def test_readiness_follows_start_and_drain_and_liveness_does_not() -> None:
    state = State()
    async with watching(state) as client:
        paths = ("/livez", "/startupz", "/readyz")
        assert [await status(client, path) for path in paths] == [200, 503, 503]
        state.started = True
        assert [await status(client, path) for path in paths] == [200, 200, 200]
        state.draining = True
        assert [await status(client, path) for path in paths] == [200, 200, 503]


async def test_liveness_fails_only_after_thirty_seconds_without_a_turn() -> None:
    state = Frozen()
    async with watching(state) as client:
        state.last_turn = time.monotonic() - 25
        assert await status(client, "/livez") == 200
        state.last_turn = time.monotonic() - 31
        assert await status(client, "/livez") == 503


async def test_turns_of_the_loop_are_noticed() -> None:
    state = State()
    state.last_turn = time.monotonic() - 31
    async with watching(state) as client, asyncio.timeout(10):
        while await status(client, "/livez") != 200:  # noqa: ASYNC110 - the turn is in another thread
            await asyncio.sleep(0.01)


def test_worst_lag_remembers_the_last_seconds_and_counts_a_standstill() -> None:
    state = State()
    state.turned(0.7)
    state.turned(0.0)
    assert (state.lag, state.worst_lag) == (0.0, 0.7)
    for _ in range(300):
        state.turned(0.0)
    assert state.worst_lag < 0.5
    state.last_turn = time.monotonic() - 9
    assert state.worst_lag > 8


async def test_health_reports_every_check_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CHECKS_DEADLINE", 3.0)

    async def well() -> object:
        return {"role": "primary"}

    async def silent() -> None:
        return None

    async def refused() -> None:
        raise ConnectionRefusedError("postgresql://reader:hush@db/hoso24 refused\nsecond line")

    async def hung() -> None:
        await asyncio.Event().wait()

    async with watching(State(), well=well, silent=silent, refused=refused, hung=hung) as client:
        code, report = await health(client)
        assert (await health(client, "?strict=1"))[0] == 503
    checks = report["checks"]
    assert (code, report["status"], report["service"]) == (200, "degraded", "sample")
    assert (checks["well"]["status"], checks["well"]["detail"]) == ("ok", {"role": "primary"})
    assert set(checks["silent"]) == {"status", "seconds"}
    assert checks["hung"] == {"status": "timeout"}
    assert checks["refused"] == {
        "status": "failed",
        "error": "ConnectionRefusedError: postgresql://reader:***@db/hoso24 refused",
    }


async def test_health_is_good_when_all_checks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CHECKS_DEADLINE", 60.0)

    async def well() -> None:
        return None

    async with watching(State(), well=well) as client:
        code, report = await health(client, "?strict=1")
    assert (code, report["status"]) == (200, "ok")


async def test_checks_run_together_on_the_main_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CHECKS_DEADLINE", 60.0)
    barrier = asyncio.Barrier(2)
    loops = []

    async def meet() -> None:
        loops.append(asyncio.get_running_loop())
        await barrier.wait()

    async with watching(State(), one=meet, other=meet) as client:
        _, report = await health(client)
    assert report["status"] == "ok"
    assert loops == [asyncio.get_running_loop()] * 2


async def test_check_that_is_too_late_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hung() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with watching(State(), hung=hung) as client:
        await health(client)
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_metrics_can_be_read_by_prometheus() -> None:
    async with watching(State()) as client, client.get("/metrics") as response:
        assert response.content_type == "text/plain"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert {"hoso24_http_requests", "hoso24_http_request_seconds", "hoso24_loop_lag_seconds"} <= set(families)
    (build,) = families["hoso24_build_info"].samples
    assert build.value == 1
    assert set(build.labels) == {"version", "python", "aiohttp"}


PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def test_metrics_tell_how_many_tasks_the_main_loop_has() -> None:
    async def told(client: ClientSession) -> float:
        async with client.get("/metrics") as response:
            families = text_string_to_metric_families(await response.text())
            return next(family.samples[0].value for family in families if family.name == "hoso24_tasks")

    async with watching(State()) as client:
        before = await told(client)
        waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(20)]
        assert await told(client) == before + 20
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await told(client) == before


async def test_metrics_are_in_openmetrics_for_whoever_accepts_it() -> None:
    async with watching(State()) as client:
        read = {}
        for accept in (PROMETHEUS_ACCEPTS, "application/openmetrics-text", "text/plain", "application/json"):
            async with client.get("/metrics", headers={"Accept": accept}) as response:
                read[accept] = (response.content_type, await response.text())
                assert response.headers["Vary"] == "Accept"
    kinds = [content_type for content_type, _ in read.values()]
    assert kinds == ["application/openmetrics-text"] * 2 + ["text/plain"] * 2
    families = openmetrics.text_string_to_metric_families(read[PROMETHEUS_ACCEPTS][1])  # type: ignore[no-untyped-call]
    assert "hoso24_http_request_seconds" in {family.name for family in families}
    assert "# EOF" not in read["text/plain"][1]


async def test_taken_admin_port_is_an_error_of_the_caller() -> None:
    first = Admin("sample", State())
    await first.listen("127.0.0.1", 0)
    second = Admin("sample", State())
    with pytest.raises(OSError, match="Address already in use"):
        await second.listen("127.0.0.1", first.port)
    await second.stop()
    await first.stop()


def test_lateness_can_be_read_while_the_main_loop_turns() -> None:
    """The admin port's thread reads what the main loop's thread writes."""
    state, over = State(), threading.Event()

    def turn() -> None:
        while not over.is_set():
            state.turned(0.0)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as can be
    turning = threading.Thread(target=turn)
    turning.start()
    try:
        for _ in range(200):
            assert min(state.worst_lag, state.late_since(0.0), state.standing_lag) >= 0.0
    finally:
        over.set()
        turning.join()
        sys.setswitchinterval(usual)


def test_hiccup_is_no_standing_lag() -> None:
    state = State()
    assert state.standing_lag == 0.0
    for lateness in (0.4, 0.3, 0.5):
        state.turned(lateness)
        assert state.standing_lag == 0.0  # too few turns to say that it stands
    state.turned(0.2)
    assert state.standing_lag == 0.2
    state.turned(0.0)
    assert state.standing_lag == 0.0


def test_lateness_since_a_moment_leaves_out_what_was_before_it() -> None:
    state = State()
    state.turned(0.7)
    between = time.monotonic()
    state.turned(0.2)
    state.turned(0.0)
    assert 0.2 <= state.late_since(between) < 0.5
    assert state.late_since(between - 60) == 0.7
    state.last_turn = time.monotonic() - 9
    assert state.late_since(time.monotonic()) > 8  # a turn that has not ended yet


async def test_admin_port_answers_both_families() -> None:
    admin = Admin("sample", State())
    await admin.listen(EVERYWHERE, 0)
    async with ClientSession() as http:
        for host in ("127.0.0.1", "[::1]")[: 1 + socket.has_dualstack_ipv6()]:
            async with http.get(f"http://{host}:{admin.port}/livez") as response:
                assert response.status == 200
    await admin.stop()
