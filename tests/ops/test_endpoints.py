"""An endpoint is what its declaration says: its route, its answer, its refusals, its action, and when it goes."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from ops.errors import Kind, Malformed, Refusal, Unavailable
from ops.http.endpoints import GENERAL, OF_BODIES, Endpoint, Reply, Retirement, endpoint_of, list_of, one_of, serve
from ops.http.middleware import middlewares
from ops.http.parameters import Parameter
from ops.http.server import Running, start
from tests.declared import fits


class Note(msgspec.Struct):
    """What is taken."""

    text: str


class Kept(msgspec.Struct, kw_only=True):
    """What is given."""

    text: str
    at: datetime | msgspec.UnsetType | None = msgspec.UNSET


class NotToday(Refusal):
    """A refusal that endpoints here may declare."""

    kind = Kind.CONFLICT
    code = "not_today"
    title = "Not today."
    title_vi = "Không phải hôm nay."


class Stranger(Refusal):
    """The client may not do this."""

    kind = Kind.FORBIDDEN
    code = "stranger"
    title = "A stranger."
    title_vi = "Người lạ."


SINCE = datetime(2026, 11, 30, 7, 0, tzinfo=timezone(timedelta(hours=7)))
GOING = Retirement(since=SINCE, sunset=datetime(2027, 11, 30, tzinfo=UTC), link="https://dossier.example/docs#notes")


def read(body: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError:
        raise Malformed("no note") from None


async def admit(request: web.Request, action: str) -> None:
    if request.headers.get("May") != action:
        raise Stranger(action)


@contextlib.asynccontextmanager
async def served(*endpoints: Endpoint, **more: Any) -> AsyncIterator[ClientSession]:
    app = web.Application(middlewares=middlewares("sample"))
    serve(app, endpoints, **more)
    server = await start(Running(app=app), service="sample")
    async with ClientSession(f"http://127.0.0.1:{server.port}") as http:
        yield http
    await server.stop()


def get(path: str, handler: Any, gives: Any = Kept, **more: Any) -> Endpoint:
    return Endpoint(method="GET", path=path, handler=handler, gives=gives, **more)


async def keep(request: web.Request, note: Note) -> Kept:
    assert endpoint_of(request) is not None
    return Kept(text=note.text)


async def kept(_: web.Request) -> Kept:
    return Kept(text="là", at=None)


async def refuse(_: web.Request) -> Kept:
    raise NotToday


KEEP = Endpoint(method="POST", path="/notes", handler=keep, takes=Note, gives=Kept, status=201, action="write")


# -- answers -----------------------------------------------------------------------------------------------


async def test_struct_is_sent_as_json_with_the_declared_status() -> None:
    async with served(get("/notes/{n}", kept), KEEP, read=read, admit=admit) as http:
        answer = await http.get("/notes/1")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert await answer.read() == '{"text":"là","at":null}'.encode()
        assert (await http.head("/notes/1")).status == 200
        answer = await http.post("/notes", data=b'{"text": "x"}', headers={"May": "write"})
        assert (answer.status, await answer.read()) == (201, b'{"text":"x"}')
        assert (await http.put("/notes", data=b"")).status == 405


async def test_reply_has_headers_of_its_own_and_no_body_without_content() -> None:
    async def held(request: web.Request) -> Reply[Kept]:
        if "If-None-Match" in request.headers:
            return Reply(None, {"ETag": '"1"'}, 304)
        return Reply(Kept(text="x"), {"ETag": '"1"'})

    async with served(get("/note", held)) as http:
        answer = await http.get("/note")
        assert (answer.status, answer.headers["ETag"], await answer.read()) == (200, '"1"', b'{"text":"x"}')
        answer = await http.get("/note", headers={"If-None-Match": '"1"'})
        assert (answer.status, answer.headers["ETag"], await answer.read()) == (304, '"1"', b"")
        assert "Content-Type" not in answer.headers


async def test_action_is_checked_before_the_body_is_looked_at() -> None:
    declared = KEEP.__class__(**{**vars(KEEP), "refuses": (Stranger,)})
    async with served(declared, read=read, admit=admit) as http:
        answer = await http.post("/notes", data=b"no note at all", headers={"May": "read"})
        assert (answer.status, (await answer.json(content_type=None))["detail"]) == (403, "write")
        answer = await http.post("/notes", data=b"no note at all", headers={"May": "write"})
        assert (answer.status, (await answer.json(content_type=None))["detail"]) == (400, "no note")


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A query string."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10)]
    old: bool = False
    tag: list[str] = []
    most: int | None = None
    before: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True, extra_json_schema={"format": "date-time"})] | None,
        msgspec.Meta(description="With a description, as declared parameters have one."),
    ] = None


async def ask(_: web.Request, asked: Asked) -> Kept:
    return Kept(text=f"{asked.limit} {asked.old} {','.join(asked.tag)}")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=3", "3 False "),
        ("limit=10&old=true&tag=a&tag=b%26", "10 True a,b&"),
        ("", "Object missing required field `limit`"),
        ("limit=11", "limit: Expected `int` <= 10"),
        ("limit=", "limit: Expected `int`, got `str`"),
        ("limit=1&limit=2", "limit: given more than once"),
        ("limit=1&more=2", "Object contains unknown field `more`"),
        ("limit=1&most=null", "most: leave it out instead of null"),
        ("limit=1&before=2026-12-01T08:00:00Z", "1 False "),
        ("limit=1&before=0.5", "before: a moment is written as 2026-12-01T08:00:00+07:00"),
        ("limit=1&before=-1e9", "before: a moment is written as 2026-12-01T08:00:00+07:00"),
        ("limit=1&old=perhaps", "old: Expected `bool`, got `str`"),
    ],
)
async def test_query_string_is_read_as_its_type_or_refused(query: str, said: str) -> None:
    async with served(get("/asked", ask, asks=Asked)) as http:
        answer = await http.get(f"/asked?{query}")
        content = await answer.json(content_type=None)
        told = (200, content["text"]) if answer.status == 200 else (answer.status, content["detail"])
        assert told == (200 if ":" not in said and "`" not in said else 400, said)
        assert content.get("code", "invalid_parameter") == "invalid_parameter"


async def test_query_comes_before_the_body_and_an_answer_may_have_none() -> None:
    async def drop(_: web.Request, asked: Asked, note: Note) -> Reply[None]:
        return Reply(None, {"Was": f"{asked.limit} {note.text}"})

    declared = Endpoint(method="DELETE", path="/notes", handler=drop, asks=Asked, takes=Note, gives=None, status=204)
    async with served(declared, read=read) as http:
        answer = await http.delete("/notes?limit=1", data=b'{"text": "x"}')
        assert (answer.status, answer.headers["Was"], await answer.read()) == (204, "1 x", b"")
        assert (await http.delete("/notes?limit=0", data=b"no note")).status == 400


async def test_lines_are_the_handlers_to_read_and_are_checked_one_by_one(undeclared: list[str]) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type="application/x-ndjson")

    declared = Endpoint(method="POST", path="/lines", handler=echo, takes=Note, gives=Kept, lines=True)
    async with served(declared) as http:
        assert (await http.post("/lines", data=b'{"text":"x"}\n{"text":"y","at":null}\n')).status == 200
        assert undeclared == []
        assert (await http.post("/lines", data=b'{"text":"x"}\n{"no":"y"}\n')).status == 200
    assert len(undeclared) == 1
    undeclared.clear()


def test_parameter_in_the_path_needs_an_example() -> None:
    with pytest.raises(ValueError, match="code stands in the path"):
        Parameter(name="code", place="path", says="A code.", required=True)


def test_endpoint_whose_action_or_body_nothing_looks_at_is_not_served() -> None:
    with pytest.raises(ValueError, match="POST /notes needs an action"):
        serve(web.Application(), [KEEP], read=read)
    with pytest.raises(ValueError, match="POST /notes takes a body"):
        serve(web.Application(), [KEEP], admit=admit)


# -- what is declared --------------------------------------------------------------------------------------


async def test_refusal_that_is_not_declared_fails_the_test(undeclared: list[str]) -> None:
    async with served(get("/declared", refuse, refuses=(NotToday,)), get("/undeclared", refuse)) as http:
        assert (await http.get("/declared")).status == 409
        assert (await http.get("/nowhere")).status == 404
        assert (await http.post("/declared")).status == 405
        assert undeclared == []
        assert (await http.get("/undeclared")).status == 409
    (sentence,) = undeclared
    undeclared.clear()
    assert sentence.startswith("GET /undeclared refuses with NotToday and does not declare it")


async def test_refusal_below_a_declared_one_is_not_declared(undeclared: list[str]) -> None:
    class Closer(NotToday):
        """A reason of its own."""

        code = "closer"

    async def refuse_closer(_: web.Request) -> Kept:
        raise Closer

    async def be_away(_: web.Request) -> Kept:
        raise Unavailable

    refusals = (NotToday,)
    async with served(get("/closer", refuse_closer, refuses=refusals), get("/away", be_away, refuses=refusals)) as http:
        assert (await http.get("/away")).status == 503
        assert undeclared == []
        assert (await http.get("/closer")).status == 409
    assert len(undeclared) == 1
    undeclared.clear()


@pytest.mark.parametrize(
    ("answer", "status"),
    [(Note(text="x"), 200), (Reply(Kept(text="x"), status=202), 202), (web.Response(body=b'{"text":"x","y":1}'), 200)],
)
async def test_content_of_another_type_or_status_fails_the_test(
    answer: Any, status: int, undeclared: list[str]
) -> None:
    class Other(msgspec.Struct):
        """Not what is sent."""

        number: int

    async def handler(_: web.Request) -> Any:
        return answer

    async with served(get("/note", handler, Other if isinstance(answer, Note) else Kept)) as http:
        assert (await http.get("/note")).status == status
    assert len(undeclared) == 1
    undeclared.clear()


def test_content_fits_its_type_field_by_field() -> None:
    assert fits(b'{"text":"x"}', Kept)
    assert fits(b'{"text":"x","at":"2026-11-30T07:00:00+07:00"}', Kept)
    for body in (
        b'{"at":null,"text":"x"}',
        b'{"text":"x","more":1}',
        b'{"text":1}',
        b'{"at":null}',
        b"{",
        b'{"text": "x"}',
    ):
        assert not fits(body, Kept), body


class Inner(msgspec.Struct):
    """One of two."""

    a: int


class Outer(msgspec.Struct):
    """Holds others that msgspec does not look into."""

    either: list[Annotated[Any, one_of(Inner, Note)]]
    raw: Annotated[msgspec.Raw, list_of(Inner)]


def test_content_fits_also_inside_unions_and_ready_made_json() -> None:
    assert fits(b'{"either":[{"a":1},{"text":"x"}],"raw":[{"a": 1}]}', Outer)
    for either, raw in (
        (b'[{"a":1,"b":1}]', b"[]"),
        (b'[{"a":"x"}]', b"[]"),
        (b"[]", b'[{"b": 1}]'),
        (b"[]", b'[{"a": 1, "b": 1}]'),
    ):
        assert not fits(b'{"either":%b,"raw":%b}' % (either, raw), Outer), (either, raw)


def test_union_is_any_of_its_types_and_bodies_are_refused_only_where_one_is_taken() -> None:
    endpoint = get("/", kept, Kept | Note, refuses=(NotToday,))
    assert endpoint.shapes == (Kept, Note)
    assert endpoint.all_refusals == {NotToday, *GENERAL}
    assert KEEP.shapes == (Kept,)
    assert KEEP.all_refusals == {*GENERAL, *OF_BODIES}


# -- retirement --------------------------------------------------------------------------------------------


async def test_retiring_endpoint_says_so_in_every_answer_and_no_other_does() -> None:
    async def linked(_: web.Request) -> Reply[Kept]:
        return Reply(Kept(text="x"), {"Link": '</1>; rel="canonical"'})

    async def move_on(_: web.Request) -> Kept:
        raise web.HTTPMovedPermanently("/linked")

    async def break_down(_: web.Request) -> Kept:
        raise RuntimeError

    async with served(
        get("/linked", linked, retires=GOING),
        get("/refused", refuse, refuses=(NotToday,), retires=GOING),
        get("/moved", move_on, retires=GOING),
        get("/broken", break_down, retires=Retirement(since=SINCE, link="/docs")),
        get("/stays", kept),
    ) as http:
        for path, status in (("/linked", 200), ("/refused", 409), ("/moved", 301)):
            answer = await http.get(path, allow_redirects=False)
            assert answer.status == status
            assert answer.headers["Deprecation"] == "@1795996800"
            assert answer.headers["Sunset"] == "Tue, 30 Nov 2027 00:00:00 GMT"
            link = '<https://dossier.example/docs#notes>; rel="deprecation"; type="text/html"'
            assert answer.headers.getall("Link")[-1] == link
        assert (await http.get("/linked")).headers.getall("Link")[0] == '</1>; rel="canonical"'
        answer = await http.get("/broken")
        assert (answer.status, answer.headers["Deprecation"]) == (500, "@1795996800")
        assert "Sunset" not in answer.headers
        assert {"Deprecation", "Sunset", "Link"}.isdisjoint((await http.get("/stays")).headers)
        assert {"Deprecation", "Sunset"}.isdisjoint((await http.get("/nowhere")).headers)


@pytest.mark.parametrize(
    ("since", "sunset"),
    [(SINCE.replace(tzinfo=None), None), (SINCE, SINCE.replace(tzinfo=None)), (SINCE, SINCE - timedelta(seconds=1))],
)
def test_retirement_without_a_moment_that_can_be_is_refused(since: datetime, sunset: datetime | None) -> None:
    with pytest.raises(ValueError, match=r"time zone|before it is deprecated"):
        Retirement(since=since, sunset=sunset, link="/docs")
