"""The document of a service says what its endpoints declare, and the pages say what the document does."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Annotated, Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from openapi_spec_validator import validate

from ops.errors import Kind, Malformed, Refusal
from ops.http.developer_pages import DOCS, OPENAPI, PROBLEMS, DeveloperPages
from ops.http.endpoints import Endpoint, Example, list_of, one_of, serve
from ops.http.explained import ADVICE
from ops.http.middleware import middlewares
from ops.http.openapi import About, Webhook, document
from ops.http.parameters import Parameter
from ops.http.problems import HTTP_STATUS
from ops.http.server import Running, start


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line,

    with what it says.
        Indented.
    """

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=9, description="What <it> says.")]
    tags: Annotated[list[str], msgspec.Meta(max_length=3)] = []


class Inner(msgspec.Struct):
    """Within."""

    n: int


class Kept(msgspec.Struct):
    """What is kept."""

    either: Annotated[Any, one_of(Inner, Line)]
    raw: Annotated[msgspec.Raw, list_of(Inner)]


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """A query string."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10, description="How many.")]
    old: bool = False
    tag: Annotated[str, msgspec.Meta(max_length=9, description="Which.", examples=["a b"])] | None = None


class Full(Refusal):
    """The shelf is full; `room` says how much is left."""

    kind = Kind.CONFLICT
    code = "full"
    title = "The shelf is full."
    title_vi = "Kệ đã đầy."
    advice = "Take something away first."
    advice_vi = "Hãy lấy bớt ra trước."


class LineRefused(Malformed):
    """A line that cannot be kept."""

    code = "line_refused"
    title = "This line cannot be kept."
    title_vi = "Không thể lưu dòng này."


async def keep(_: web.Request, query: Query, line: Line) -> Kept:
    """Keep a line; the answer has it again.

    It is kept for `limit` days.
    """
    raise Full(str(query.limit), room=len(line.text))


async def kept(_: web.Request) -> web.Response:
    """What is kept under a number."""
    return web.Response()


async def push(_: web.Request) -> web.Response:
    """Keep many lines."""
    return web.Response()


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/lines",
        handler=keep,
        asks=Query,
        takes=Line,
        gives=Kept,
        status=201,
        refuses=(Full,),
        action="keep",
        example=Example(body={"text": "it's"}),
    ),
    Endpoint(
        method="GET",
        path=r"/lines/{n:\d+}",
        handler=kept,
        gives=Inner | Line,
        parameters=(
            Parameter(name="n", place="path", says="Its number.", type=int, required=True, example=7),
            Parameter(name="If-None-Match", place="header", says="The ETag that the client holds."),
        ),
        redirects="It has moved.",
    ),
    Endpoint(method="POST", path="/push", handler=push, takes=Line, gives=Inner, lines=True, tells=(LineRefused,)),
]
TOLD = Webhook(name="changed", sends=Inner, says="Something was kept.")
ABOUT = About(title="Shelf", says="Keeps `lines`.", server="https://shelf.example", credentials="Ask for it.")


def told() -> Any:
    return msgspec.json.decode(msgspec.json.encode(document(ABOUT, ENDPOINTS, [TOLD])))


def test_document_is_valid_and_says_what_is_declared() -> None:
    document = told()
    validate(document)
    assert document["openapi"] == "3.1.1"
    assert document["servers"] == [{"url": "https://shelf.example"}]
    keep = document["paths"]["/lines"]["post"]
    assert keep["summary"] == "Keep a line; the answer has it again"
    assert keep["description"] == "It is kept for `limit` days.\n\nNeeds the action `keep`."
    assert keep["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    limit, old, tag = keep["parameters"]
    assert limit == {
        "name": "limit",
        "in": "query",
        "description": "How many.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": 10},
    }
    assert old["schema"] == {"type": "boolean", "default": False}
    assert "required" not in old
    assert tag == {
        "name": "tag",
        "in": "query",
        "description": "Which.",
        "schema": {"type": "string", "maxLength": 9},
        "example": "a b",
    }
    body = keep["requestBody"]["content"]["application/json"]
    assert body == {"schema": {"$ref": "#/components/schemas/Line"}, "example": {"text": "it's"}}
    assert set(keep["responses"]) == {"201", *map(str, (400, 404, 405, 409, 413, 414, 415, 417, 431, 500, 503))}
    conflict = keep["responses"]["409"]
    assert conflict["description"] == "`full`: The shelf is full."
    schema = conflict["content"]["application/problem+json"]["schema"]
    assert schema["properties"] == {"code": {"enum": ["full"]}}
    assert "invalid_parameter" in keep["responses"]["400"]["description"]


def test_document_shows_path_redirect_held_answers_and_unions() -> None:
    kept = told()["paths"]["/lines/{n}"]["get"]
    assert [each["name"] for each in kept["parameters"]] == ["n", "If-None-Match"]
    assert kept["parameters"][0]["example"] == 7
    assert {"200", "301", "304"} <= set(kept["responses"])
    assert "security" not in kept
    shapes = kept["responses"]["200"]["content"]["application/json"]["schema"]
    assert shapes == {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"$ref": "#/components/schemas/Line"}]}


def test_document_has_lines_webhooks_and_types_that_stand_within_others() -> None:
    document = told()
    push = document["paths"]["/push"]["post"]
    assert list(push["requestBody"]["content"]) == ["application/x-ndjson"]
    assert document["webhooks"]["changed"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Inner"
    }
    schemas = document["components"]["schemas"]
    assert set(schemas) == {"Inner", "Kept", "Line", "Problem"}
    assert schemas["Line"]["description"] == "One line,\n\nwith what it says.\n    Indented."
    assert schemas["Line"]["additionalProperties"] is False
    assert schemas["Line"]["properties"]["tags"] == {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": 3,
        "default": [],
    }


def test_two_operations_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        document(ABOUT, [ENDPOINTS[0], ENDPOINTS[0]])
    with pytest.raises(ValueError, match="same name"):
        document(ABOUT, ENDPOINTS, [Webhook(name="kept", sends=Inner, says="An endpoint has this name.")])


def test_every_kind_of_refusal_has_advice_in_both_languages() -> None:
    assert set(ADVICE) == set(HTTP_STATUS) == set(Kind)
    for english, vietnamese in ADVICE.values():
        assert english.replace("…", "").isascii()
        assert not vietnamese.replace("…", "").isascii()


# -- served ------------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Where a page leads, what stands in it under which id, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("style", "src") for name in given), given
        if tag == "a":
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])


async def test_pages_are_served_whole_and_lead_only_where_something_is() -> None:
    async def admit(_: web.Request, __: str) -> None: ...

    pages = DeveloperPages(ABOUT, ENDPOINTS, [TOLD])
    app = web.Application(middlewares=middlewares("sample"))
    serve(app, pages.endpoints, read=lambda body, shape: msgspec.json.decode(body, type=shape), admit=admit)
    app.add_routes(pages.routes())
    server = await start(Running(app=app), service="sample")
    async with ClientSession(f"http://127.0.0.1:{server.port}") as http:
        answer = await http.get(OPENAPI)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert PROBLEMS in (await answer.json())["paths"]
        held = {"If-None-Match": answer.headers["ETag"]}
        assert (await http.get(OPENAPI, headers=held)).status == 304
        assert (await http.head(OPENAPI)).status == 200

        answer = await http.get(DOCS)
        page = await answer.text()
        found = Links(page)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert answer.headers["Content-Security-Policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        assert found.tags.isdisjoint({"script", "img", "link", "iframe", "form"})
        assert len(set(found.ids)) == len(found.ids)
        assert "What &lt;it&gt; says." in page
        assert "-d &#39;{" in page
        assert "/lines?tag=a+b&#34;" in page
        for link in set(found.links):
            if link.startswith("#"):
                assert link[1:] in found.ids, link
            else:
                assert (await http.get(link)).status == 200, link

        problems = (await (await http.get(PROBLEMS)).json())["problems"]
        assert {"full", "line_refused", "malformed"} <= {each["code"] for each in problems}
        assert [each["status"] for each in problems] == sorted(each["status"] for each in problems)
        (full,) = (each for each in problems if each["code"] == "full")
        assert full == {
            "code": "full",
            "type": "urn:hoso24:problem:full",
            "status": 409,
            "title": "The shelf is full.",
            "title_vi": "Kệ đã đầy.",
            "meaning": "The shelf is full; `room` says how much is left.",
            "advice": "Take something away first.",
            "advice_vi": "Hãy lấy bớt ra trước.",
            "repeating_helps": False,
            "retry_after": None,
            "page": "/problems/full",
        }

        answer = await http.post("/lines?limit=3", data=b'{"text": "x"}')
        assert (answer.status, answer.headers["Link"]) == (409, '</problems/full>; rel="help"')
        assert (await answer.json(content_type=None))["type"] == full["type"]
        help_page = await (await http.get(answer.links["help"]["url"])).text()
        for words in (full["title"], full["title_vi"], full["advice"], full["advice_vi"], "409"):
            assert words in help_page
        answer = await http.get("/problems/none")
        assert answer.status == 404
    await server.stop()
