"""Answers the header Expect where it asks for anything but 100-continue.

aiohttp's own handler for it stands outside the middlewares: it repeats the value in its answer, fails where the value
is no text, and counts nothing.
"""

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, hdrs, web

from ops.errors import Kind, Refusal
from ops.http.access import OTHER_METHOD, UNMATCHED, new_request_id, record
from ops.http.problems import HTTP_STATUS, problem
from ops.observe import tracing
from ops.observe.logs import request_id

CONTINUE = "100-continue"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Finish = Callable[[web.BaseRequest, web.StreamResponse], Awaitable[None]]
"""Adds what every answer has."""


class UnknownExpectation(Refusal):
    """The header Expect names something other than 100-continue."""

    kind = Kind.EXPECTATION
    code = "unknown_expectation"
    title = "Of expectations only 100-continue is met here."
    title_vi = "Chỉ hỗ trợ giá trị 100-continue trong tiêu đề Expect."


def heed_expectations(runner: web.AppRunner, service: str, finish: Finish) -> None:
    """Let connections made from now on of this runner, which is set up, refuse unknown expectations."""
    server = runner.server
    assert server is not None  # noqa: S101 - the runner is set up
    server.request_handler = _refusing_unknown(server.request_handler, service, finish)


def _refusing_unknown(handler: Handler, service: str, finish: Finish) -> Handler:
    """The handler of an aiohttp server, with requests answered 417 whose Expect is not 100-continue.

    HTTP/1.0 knows no expectations, so the header is ignored there, as by aiohttp.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        expected = request.headers.get(hdrs.EXPECT)
        if not expected or request.version != HttpVersion11 or expected.lower() == CONTINUE:
            return await handler(request)
        request_id.set(new_request_id())
        tracing.begin(tracing.of_request(request_id.get() or ""))
        record(service, OTHER_METHOD, UNMATCHED, HTTP_STATUS[Kind.EXPECTATION], seconds=0.0)
        response = problem(request.headers, UnknownExpectation())
        await finish(request, response)
        return response

    return handle
