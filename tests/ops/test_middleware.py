"""Whatever happens to a request, it is answered in one form, counted once, and tells nothing internal."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from ops.errors import Kind, Refusal, Unavailable
from ops.http import access, bodies, middleware
from ops.http.middleware import middlewares
from ops.http.problems import HTTP_STATUS, prefers_vietnamese
from ops.http.server import Running, start
from ops.observe.per_second import PerSecond
from tests.house import reset
from tests.ops.test_logs import Lines, captured


class MoveRefused(Refusal):
    """The status cannot be reached from here."""

    kind = Kind.CONFLICT
    code = "move_refused"
    title = "This status cannot follow the present one."
    title_vi = "Không thể chuyển sang trạng thái này."


class TokenMissing(Refusal):
    """The request has no token."""

    kind = Kind.UNAUTHENTICATED
    code = "token_missing"
    title = "A token is needed."
    title_vi = "Cần có mã truy cập."


async def answer_code(request: web.Request) -> web.Response:
    logging.getLogger("sample").info("Inside.")
    return web.json_response({"code": request.match_info["code"]})


async def refuse(_: web.Request) -> web.Response:
    raise MoveRefused("It is final.", allowed=["returned"], version=3, status="forged")


async def break_down(_: web.Request) -> web.Response:
    raise RuntimeError("password=hush for dossier H26-1")


async def run_out_of_time(_: web.Request) -> web.Response:
    raise TimeoutError


async def be_away(_: web.Request) -> web.Response:
    raise Unavailable("The registry is away.", retry_after=7)


async def ask_for_token(_: web.Request) -> web.Response:
    raise TokenMissing


async def read_body(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await bodies.read_body(request))))


async def move_on(_: web.Request) -> web.Response:
    answer = web.HTTPSeeOther("/elsewhere")
    answer.set_cookie("seen", "1")
    raise answer


async def break_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"half of the ans")
    raise RuntimeError("in the middle")


ROUTES = [
    web.get("/codes/{code}", answer_code),
    web.get("/refuse", refuse),
    web.get("/break", break_down),
    web.get("/late", run_out_of_time),
    web.get("/away", be_away),
    web.get("/token", ask_for_token),
    web.post("/body", read_body),
    web.get("/move", move_on),
    web.get("/off", break_off),
]


def application(render: middleware.Render | None = None, *more: web.RouteDef) -> web.Application:
    app = web.Application(middlewares=middlewares("sample", render=render), client_max_size=1000)
    app.add_routes([*ROUTES, *more])
    return app


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[ClientSession]:
    """As in production; aiohttp's test server has an access log and cancels handlers."""
    server = await start(Running(app=app), service="sample")
    async with ClientSession(f"http://127.0.0.1:{server.port}") as client:
        yield client
    await server.stop()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with serving(application()) as client:
        yield client


@contextlib.asynccontextmanager
async def connected(app: web.Application) -> AsyncIterator[asyncio.StreamWriter]:
    server = await start(Running(app=app), service="sample")
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    yield writer
    await server.stop()


def counted(method: str, route: str, status: int) -> float:
    labels = {"service": "sample", "method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("hoso24_http_requests_total", labels) or 0.0


def timed(route: str) -> float:
    labels = {"service": "sample", "route": route}
    return REGISTRY.get_sample_value("hoso24_http_request_seconds_count", labels) or 0.0


def in_flight() -> float | None:
    return REGISTRY.get_sample_value("hoso24_http_in_flight", {"service": "sample"})


async def problem_of(response: ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    problem: dict[str, Any] = json.loads(await response.read())
    assert problem["status"] == response.status
    assert problem["type"] == f"urn:hoso24:problem:{problem['code']}"
    assert problem["request_id"] == response.headers["X-Request-Id"]
    return problem


def test_every_kind_of_refusal_has_a_status() -> None:
    assert list(HTTP_STATUS) == list(Kind)
    assert len(set(HTTP_STATUS.values())) == len(Kind)


async def test_refusal_becomes_a_problem_with_its_members(client: ClientSession) -> None:
    response = await client.get("/refuse")
    assert response.status == 409
    problem = await problem_of(response)
    assert problem["title"] == MoveRefused.title
    assert problem["detail"] == "It is final."
    assert (problem["allowed"], problem["version"]) == (["returned"], 3)


async def test_vietnamese_is_answered_to_those_who_prefer_it(client: ClientSession) -> None:
    response = await client.get("/refuse", headers={"Accept-Language": "vi-VN,en;q=0.8"})
    assert (await problem_of(response))["title"] == MoveRefused.title_vi
    assert response.headers["Content-Language"] == "vi"


@pytest.mark.parametrize(
    ("header", "vietnamese"),
    [
        ("", False),
        ("*", False),
        ("fr", False),
        ("vi", True),
        ("VI-vn", True),
        ("en, vi;q=0.9", False),
        ("en;q=0.3, vi;q=0.9", True),
        ("fr, vi;q=0.2", True),
        ("vi;q=0, en;q=0.1", False),
        ("vi;q=nonsense", False),
    ],
)
def test_language_is_chosen_by_weight(header: str, vietnamese: bool) -> None:
    assert prefers_vietnamese(header) is vietnamese


def test_long_list_of_languages_is_not_read() -> None:
    assert prefers_vietnamese("vi" + ",de" * 170)
    assert not prefers_vietnamese("vi" + ",de" * 171)


async def test_unforeseen_exception_tells_the_request_id_and_nothing_more(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.get("/break")
    assert response.status == 500
    problem = await problem_of(response)
    assert set(problem) == {"type", "title", "status", "code", "request_id"}
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "password=hush" in str(record.exc_info[1])


async def test_time_out_and_absence_ask_to_come_back(client: ClientSession) -> None:
    late = await client.get("/late")
    assert (late.status, late.headers["Retry-After"]) == (503, "1")
    assert (await problem_of(late))["code"] == "unavailable"
    away = await client.get("/away")
    assert (away.status, away.headers["Retry-After"]) == (503, "7")


async def test_missing_token_is_asked_for(client: ClientSession) -> None:
    response = await client.get("/token")
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_aiohttp_refuses_in_the_same_form(client: ClientSession) -> None:
    nowhere = await client.get("/nowhere")
    assert (nowhere.status, (await problem_of(nowhere))["code"]) == (404, "not_found")
    method = await client.put("/refuse")
    assert (method.status, (await problem_of(method))["code"]) == (405, "method_not_allowed")
    assert method.headers["Allow"] == "GET,HEAD"
    large = await client.post("/body", data=b"x" * 2000)
    assert (large.status, (await problem_of(large))["code"]) == (413, "too_large")


async def test_redirect_passes_with_its_cookie(client: ClientSession) -> None:
    before = counted("GET", "/move", 303)
    response = await client.get("/move", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (303, "/elsewhere")
    assert "seen=1" in response.headers["Set-Cookie"]
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert counted("GET", "/move", 303) == before + 1


@pytest.mark.parametrize("path", ["/codes/1", "/nowhere", "/break", "/refuse"])
async def test_every_answer_is_dressed_by_the_middlewares_alone(path: str) -> None:
    async with TestClient(TestServer(application())) as client:
        headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "hoso24"
    assert re.fullmatch(r"[0-9a-f]{16}", headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("given", "kept"), [("desk-7.a_B", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
async def test_sane_request_id_is_kept(client: ClientSession, given: str, kept: bool) -> None:
    response = await client.get("/codes/1", headers={"X-Request-Id": given})
    assert (response.headers["X-Request-Id"] == given) is kept


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/codes/H26-1", "/codes/{code}", 200),
        ("GET", "/refuse", "/refuse", 409),
        ("GET", "/break", "/break", 500),
        ("GET", "/nowhere/H26-1", "unmatched", 404),
        ("PUT", "/refuse", "unmatched", 405),
        ("PROPFIND", "/refuse", "unmatched", 405),
    ],
)
async def test_request_is_counted_once_under_its_template(
    client: ClientSession, method: str, path: str, route: str, status: int
) -> None:
    label = "OTHER" if method == "PROPFIND" else method
    before, timed_before = counted(label, route, status), timed(route)
    assert (await client.request(method, path)).status == status
    assert counted(label, route, status) == before + 1
    assert timed(route) == timed_before + 1
    assert in_flight() == 0


async def test_no_label_holds_a_code(client: ClientSession) -> None:
    await client.get("/codes/H26-UNIQUE")
    await client.get("/nowhere/H26-UNIQUE")
    labels = [str(sample.labels) for metric in REGISTRY.collect() for sample in metric.samples]
    assert not [label for label in labels if "UNIQUE" in label]


async def test_refused_for_now_does_not_count_as_slow(client: ClientSession) -> None:
    before = timed("/away"), counted("GET", "/away", 503)
    await client.get("/away")
    assert (timed("/away"), counted("GET", "/away", 503)) == (before[0], before[1] + 1)


async def poll(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another library
            await asyncio.sleep(0.01)


async def test_client_that_left_is_counted_as_such() -> None:
    begun = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        begun.set()
        await poll(lambda: request.transport is None)
        return web.Response(text="too late")

    before = counted("GET", "/wait", 499), counted("GET", "/wait", 200)
    async with connected(application(None, web.get("/wait", wait))) as writer:
        writer.write(b"GET /wait HTTP/1.1\r\nHost: sample\r\n\r\n")
        await begun.wait()
        reset(writer)
        await poll(lambda: in_flight() == 0)
    assert (counted("GET", "/wait", 499), counted("GET", "/wait", 200)) == (before[0] + 1, before[1])


async def test_client_that_leaves_while_sending_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = counted("POST", "/body", 499)
    async with connected(application()) as writer:
        writer.write(b"POST /body HTTP/1.1\r\nHost: sample\r\nContent-Length: 500\r\n\r\nhalf")
        await poll(lambda: in_flight() == 1)
        writer.close()
        await writer.wait_closed()
        await poll(lambda: in_flight() == 0)
    assert counted("POST", "/body", 499) == before + 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_packed_body_is_refused_without_a_look_at_it(client: ClientSession) -> None:
    response = await client.post("/body", data=b"not gzip", headers={"Content-Encoding": "gzip"})
    assert response.status == 415
    assert (await problem_of(response))["code"] == "unsupported_content_coding"


async def test_answer_that_fails_half_way_is_cut_and_not_continued(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("GET", "/off", 500)
    response = await client.get("/off")
    with pytest.raises(ClientPayloadError):
        await response.read()
    assert counted("GET", "/off", 500) == before + 1
    assert "in the middle" in caplog.text


def page(_: web.Request, refusal: Refusal) -> web.Response | None:
    if refusal.kind is Kind.CONFLICT:
        return None
    if isinstance(refusal, Unavailable):
        raise LookupError("no such template")
    return web.Response(text=f"<p>{refusal.title}</p>", content_type="text/html", status=404)


async def test_application_may_render_refusals_as_pages() -> None:
    async with serving(application(page)) as client:
        nowhere = await client.get("/nowhere")
        assert (nowhere.status, nowhere.content_type) == (404, "text/html")
        assert nowhere.headers["Cache-Control"] == "no-store"
        assert nowhere.headers["X-Content-Type-Options"] == "nosniff"
        declined = await client.get("/refuse")
        assert (await problem_of(declined))["code"] == "move_refused"


async def test_page_that_cannot_be_rendered_falls_back_to_the_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(application(page)) as client:
        response = await client.get("/away")
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
        assert (await problem_of(response))["detail"] == "The registry is away."
    assert "no such template" in caplog.text


@pytest.fixture
def lines() -> Iterator[Lines]:
    with captured() as read:
        yield read


async def test_log_lines_of_a_request_carry_its_id_and_no_query(client: ClientSession, lines: Lines) -> None:
    response = await client.get("/codes/H26-1?key=HUSH", headers={"X-Request-Id": "desk-7"})
    await response.read()
    await client.get("/nowhere%3Fkey=HUSH")
    inside, access, mistyped = lines()
    assert "HUSH" not in str(lines())
    assert (inside["message"], inside["request_id"]) == ("Inside.", "desk-7")
    assert access["logger"] == "hoso24.access"
    assert access["message"] == "GET /codes/{code} 200"
    assert (access["request_id"], access["route"], access["status"]) == ("desk-7", "/codes/{code}", 200)
    assert mistyped["route"] == "unmatched"
    assert "H26-1" not in str([access, mistyped])


async def test_line_says_a_hash_of_what_the_path_names(lines: Lines) -> None:
    app = web.Application(middlewares=middlewares("sample", subjects={"code": lambda typed: typed.lower()[::-1]}))
    app.add_routes([web.get("/codes/{code}", answer_code), web.get("/of/{other}", refuse)])
    async with serving(app) as client:
        await client.get("/codes/H26")
        await client.get("/of/H26")
    inside, first, second = [line for line in lines() if "request_id" in line]
    assert (first["code_hash"], "code_hash" in second, "code_hash" in inside) == ("62h", False, False)


async def test_failed_request_has_one_line(client: ClientSession, lines: Lines) -> None:
    for path in ("/break", "/late", "/off"):
        response = await client.get(path, headers={"X-Request-Id": path[1:]})
        with contextlib.suppress(ClientPayloadError):
            await response.read()
    told = [(line["request_id"], line["level"], line["exception"]) for line in lines() if "request_id" in line]
    assert [each[:2] for each in told] == [("break", "error"), ("late", "warning"), ("off", "error")]
    assert [exception.splitlines()[-1] for _, _, exception in told] == [
        "RuntimeError: password=hush for dossier H26-1",  # only the domain knows what a dossier is
        "TimeoutError",
        "RuntimeError: in the middle",
    ]


def test_failures_have_lines_of_their_own_however_many_are_refused(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_bad_lines", "_failed_lines"):
        monkeypatch.setattr(access, name, PerSecond(2, lambda: 1.0))
    with caplog.at_level(logging.INFO, logger="hoso24.access"):
        for failure in (*[None] * 9, *[RuntimeError()] * 9):
            access.record("sample", "GET", "/x", 503, seconds=0.0, log_share=0.0, failure=failure)
    assert [record.exc_info is not None for record in caplog.records] == [False, False, True, True]


async def test_concurrent_requests_keep_their_ids_apart(client: ClientSession, lines: Lines) -> None:
    names = [f"r{number}" for number in range(20)]
    answers = await asyncio.gather(*[client.get("/codes/1", headers={"X-Request-Id": name}) for name in names])
    assert [answer.headers["X-Request-Id"] for answer in answers] == names
    ids = [line["request_id"] for line in lines() if "request_id" in line]
    assert {name: ids.count(name) for name in ids} == dict.fromkeys(names, 2)


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 10\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
    ids=["too short", "chunk that breaks off"],
)
async def test_body_that_never_ends_is_given_up(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)

    async def count(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await bodies.read_body(request))))

    server = await start(Running(app=application(None, web.post("/count", count))), service="sample")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /count HTTP/1.1\r\nHost: a\r\n" + body)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    writer.close()
    await writer.wait_closed()
    await server.stop()


def test_bad_answers_beyond_so_many_a_second_get_no_line_and_good_ones_their_share() -> None:
    now = 10.0
    allowance = PerSecond(3, lambda: now)
    assert [allowance.take() for _ in range(5)] == [True, True, True, False, False]
    now = 11.2
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


def test_refusing_everybody_fills_no_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_bad_lines", PerSecond(access.BAD_LINES, lambda: 1.0))
    with caplog.at_level(logging.INFO, logger="hoso24.access"):
        for _ in range(access.BAD_LINES + 50):
            access.record("sample", "GET", "/codes/{code}", 503, seconds=0.0, log_share=0.0)
        assert len(caplog.records) == access.BAD_LINES
        access.record("sample", "GET", "/codes/{code}", 503, seconds=0.0, log_share=1.0)
        assert len(caplog.records) == access.BAD_LINES + 1


def test_share_of_good_answers_gets_a_line_and_no_more_than_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_drawn_lines", PerSecond(access.DRAWN_LINES, lambda: 1.0))
    assert not any(access.draw(0.0) for _ in range(1000))
    assert sum(access.draw(0.9) for _ in range(1000)) == access.DRAWN_LINES
    assert all(access.draw(1.0) for _ in range(1000))


def test_refusals_have_a_limit_of_lines_whatever_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_refused_lines", PerSecond(access.REFUSED_LINES, lambda: 1.0))
    statuses = (400, 401, 404, 429)
    lines = [access.worth_a_line(statuses[n % 4], 0.0, drawn=access.draw(1.0)) for n in range(1000)]
    assert sum(lines) == access.REFUSED_LINES
    assert access.worth_a_line(200, 0.0, drawn=True)
    assert not access.worth_a_line(401, 0.0, drawn=False)
