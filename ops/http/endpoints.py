"""The endpoints of a JSON API, each declared once: routes, the check of the action and retirement headers follow from
the declaration.

A handler returns a Struct, or a Reply where it sets headers too, and only this module encodes it. Content that is
kept as finished bytes passes as a response. What an endpoint takes, gives and refuses is stated nowhere else; the tests
fail on a refusal that an endpoint answers without declaring it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from types import UnionType
from typing import Any, Generic, TypeVar, get_args

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractMatchInfo

from ops.errors import (
    AddressTooLong,
    HeadTooLarge,
    Internal,
    Malformed,
    MethodNotAllowed,
    NoSuchPath,
    OurOwnDelay,
    Refusal,
    TooLarge,
    Unavailable,
)
from ops.http.bodies import BodyTooSlow, UnsupportedCoding, read_body
from ops.http.expectations import UnknownExpectation
from ops.http.parameters import InvalidParameter, Parameter, read_query

GENERAL: tuple[type[Refusal], ...] = (
    *(Malformed, NoSuchPath, MethodNotAllowed, AddressTooLong, UnknownExpectation, HeadTooLarge),
    *(Internal, Unavailable, OurOwnDelay),
)
"""What any endpoint may refuse with: the connection, the routes and the middlewares do."""
OF_BODIES: tuple[type[Refusal], ...] = (BodyTooSlow, TooLarge, UnsupportedCoding)
"""What any endpoint that takes a body may refuse with besides."""
OF_QUERIES: tuple[type[Refusal], ...] = (InvalidParameter,)
"""What any endpoint with a typed query string may refuse with besides."""

Shape = TypeVar("Shape", bound=msgspec.Struct | msgspec.Raw | None)
Read = Callable[[bytes, type[Any]], Any]
"""Makes a body into the Struct that an endpoint takes, or raises a refusal."""
Admit = Callable[[web.Request, str], Awaitable[None]]
"""Raises a refusal unless the client of this request may do this action."""

ANY_CLIENT = "any"
"""The action of an endpoint that every client may call, whatever it is permitted to do; one of no client has none."""

encode = msgspec.json.Encoder().encode
"""JSON as every endpoint sends it."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[Shape]):
    """A handler's answer with headers of its own. `content` None: no body. `status` None: the endpoint's."""

    content: Shape | None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None

    def response(self, status: int = 200) -> web.Response:
        """The response to send; `status` unless the answer has its own."""
        status = self.status or status
        if self.content is None:
            return web.Response(status=status, headers=self.headers)
        body = encode(self.content)
        return web.Response(status=status, body=body, content_type="application/json", headers=self.headers)


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """An endpoint is deprecated `since` then (RFC 9745) and may go from `sunset` on (RFC 8594; None: not decided).

    `link`: the page that says what replaces it. Raises ValueError for moments without a time zone, and for a sunset
    before the deprecation.
    """

    since: datetime
    link: str
    sunset: datetime | None = None

    def __post_init__(self) -> None:
        if self.since.tzinfo is None or (self.sunset is not None and self.sunset.tzinfo is None):
            raise ValueError("a retirement's moments need a time zone")
        if self.sunset is not None and self.sunset < self.since:
            raise ValueError("an endpoint cannot go before it is deprecated")

    def add_to(self, headers: Any) -> None:
        """Add Deprecation, Sunset and Link to an answer's headers."""
        headers["Deprecation"] = f"@{int(self.since.timestamp())}"
        if self.sunset is not None:
            headers["Sunset"] = format_datetime(self.sunset.astimezone(UTC), usegmt=True)
        headers.add(hdrs.LINK, f'<{self.link}>; rel="deprecation"; type="text/html"')


def one_of(*shapes: type[msgspec.Struct]) -> msgspec.Meta:
    """Says that a value of type Any is one of these.

    msgspec encodes a union of Structs, but neither decodes nor describes one whose members are not tagged.
    """
    named = [{"$ref": f"#/components/schemas/{shape.__name__}"} for shape in shapes]
    return msgspec.Meta(extra_json_schema={"anyOf": named}, extra={"one_of": shapes})


def list_of(shape: type[msgspec.Struct]) -> msgspec.Meta:
    """Says that a value of type Raw, JSON that was made elsewhere, is a list of these."""
    items = {"$ref": f"#/components/schemas/{shape.__name__}"}
    return msgspec.Meta(extra_json_schema={"type": "array", "items": items}, extra={"one_of": (shape,)})


Handler = Callable[..., Awaitable[msgspec.Struct | Reply[Any] | web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request that works, and its answer, as JSON values; the values of parameters stand with these.

    Tests send it. `body` of lines: the list of them. `answer`: its fields are those of the real answer, its values need
    not be; None shows none.
    """

    body: Any = None
    answer: Any = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one path. `name`: the operation's in the document for partners, by default its handler's.

    `handler(request)`; with `asks` and `takes` `handler(request, asked, content)`: the query string and the body as
    these types. `gives`: the type of its answer, or a union of them, or None for an answer without a body; `status`: of
    that answer. `media`: of an answer that is no JSON, and which the handler makes itself. `lines`: body and answer are
    application/x-ndjson, one of `takes` and of `gives` a line, and the handler reads the body and writes the answer
    itself. `parameters`: what else the handler reads from the request. `redirects`: when it answers 301, None for
    never. `refuses`: the classes, besides GENERAL, OF_BODIES and OF_QUERIES, and no base of them; `tells`: those whose
    codes stand inside its answer, in a list or a line. `action`: what the client must be permitted to do; checked
    before query and body are read. `budget`: which of its budgets a client spends here; None: the usual one of the
    method. `retires`: None while it stays.
    """

    method: str
    path: str
    handler: Handler
    name: str = ""
    asks: type[msgspec.Struct] | None = None
    takes: type[msgspec.Struct] | None = None
    gives: type[msgspec.Struct] | UnionType | None
    status: int = 200
    media: str | None = None
    lines: bool = False
    parameters: tuple[Parameter, ...] = ()
    redirects: str | None = None
    refuses: tuple[type[Refusal], ...] = ()
    tells: tuple[type[Refusal], ...] = ()
    action: str | None = None
    example: Example = Example()
    budget: str | None = None
    retires: Retirement | None = None

    @property
    def operation(self) -> str:
        """Its name in the document for partners; no two of a service have the same."""
        return self.name or getattr(self.handler, "__name__", "")

    @property
    def shapes(self) -> tuple[type[msgspec.Struct], ...]:
        """The types of its answer, one by one."""
        if self.gives is None:
            return ()
        return get_args(self.gives) if isinstance(self.gives, UnionType) else (self.gives,)

    @property
    def all_refusals(self) -> frozenset[type[Refusal]]:
        """Every refusal that it may answer."""
        of_query, of_body = OF_QUERIES if self.asks else (), OF_BODIES if self.takes else ()
        return frozenset((*self.refuses, *GENERAL, *of_query, *of_body))


class _Served:
    """An endpoint with what its application reads bodies and admits clients by."""

    def __init__(self, endpoint: Endpoint, read: Read | None, admit: Admit | None) -> None:
        if endpoint.takes is not None and not endpoint.lines and read is None:
            raise ValueError(f"{endpoint.method} {endpoint.path} takes a body, and nothing reads it")
        if endpoint.action is not None and admit is None:
            raise ValueError(f"{endpoint.method} {endpoint.path} needs an action, and nothing checks it")
        self.endpoint = endpoint
        self._read = read
        self._admit = admit

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The handler's answer as a response."""
        endpoint = self.endpoint
        if endpoint.action is not None and self._admit is not None:
            await self._admit(request, endpoint.action)
        given: list[Any] = []
        if endpoint.asks is not None:
            given.append(read_query(request.query, endpoint.asks))
        if endpoint.takes is not None and not endpoint.lines and self._read is not None:
            given.append(self._read(await read_body(request), endpoint.takes))
        answer = await endpoint.handler(request, *given)
        if isinstance(answer, web.StreamResponse):
            return answer
        if not isinstance(answer, Reply):
            answer = Reply(answer)
        return answer.response(endpoint.status)


def serve(
    app: web.Application, endpoints: Iterable[Endpoint], *, read: Read | None = None, admit: Admit | None = None
) -> None:
    """Add these endpoints' routes to the application, GET with HEAD, and the headers of those that retire.

    `read` makes bodies into Structs and `admit` checks actions. Raises ValueError when an endpoint needs one of them
    that is missing.
    """
    served = [_Served(endpoint, read, admit) for endpoint in endpoints]
    for each in served:
        method, path = each.endpoint.method, each.endpoint.path
        get = method == hdrs.METH_GET
        app.add_routes([web.get(path, each.answer) if get else web.route(method, path, each.answer)])
    if any(each.endpoint.retires for each in served):
        app.on_response_prepare.append(_tell_of_retirement)


def endpoint_of(request: web.Request) -> Endpoint | None:
    """The endpoint that this request was routed to; None for another route, and for none."""
    return endpoint_at(request.match_info)


def endpoint_at(found: AbstractMatchInfo) -> Endpoint | None:
    """The endpoint that this route leads to; None for another route, and for none."""
    served = getattr(found.handler, "__self__", None)
    return served.endpoint if isinstance(served, _Served) else None


async def _tell_of_retirement(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer of an endpoint that retires, refusals included."""
    endpoint = endpoint_of(request)
    if endpoint is not None and endpoint.retires is not None:
        endpoint.retires.add_to(response.headers)
