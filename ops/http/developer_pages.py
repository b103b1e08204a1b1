"""What a service says to the developers of its clients: `/openapi.json`, `/docs`, and a page about each refusal.

All are made once, from the declarations of the endpoints, before the first request. The pages have no script and need
nothing from elsewhere.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from aiohttp import web
from markupsafe import Markup, escape

from ops.errors import NoSuchPath
from ops.http.cross_origin import ANY_SITE
from ops.http.endpoints import GENERAL, Endpoint, encode
from ops.http.explained import ExplainedProblems, explain, page_of
from ops.http.finished import Finished
from ops.http.openapi import About, Webhook, document, lines_of, path
from ops.http.problems import explained_at

OPENAPI, DOCS, PROBLEMS = "/openapi.json", "/docs", "/api/v1/problems"

_KEPT: Mapping[str, str] = {"Cache-Control": "public, max-age=300"}
_CODE = re.compile(r"`([^`]+)`")
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_STYLE = (resources.files(__package__) / "templates" / "developers.css").read_text("utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No script, no image, no other site: only the style that stands in the page."""


class DeveloperPages:
    """The document and the pages of one service. `endpoints` are those given, and the list of refusals besides."""

    def __init__(self, about: About, endpoints: Iterable[Endpoint], webhooks: Iterable[Webhook] = ()) -> None:
        """Raises ValueError when two operations have the same name."""
        listed = Endpoint(method="GET", path=PROBLEMS, handler=self.problems, gives=ExplainedProblems)
        self.endpoints = [*endpoints, listed]
        refusals = {refusal for each in self.endpoints for refusal in (*each.all_refusals, *each.tells)}
        explained = explain(refusals)
        told = document(about, self.endpoints, webhooks)
        shared = {**_KEPT, **ANY_SITE}
        self._problems = Finished(encode(ExplainedProblems(explained)), "application/json", shared)
        self._document = Finished(encode(told), "application/json", shared)
        self._docs = _page("docs.html", about=about, told=told, operations=_operations(self.endpoints, told))
        self._pages = {each.code: _page("refusal.html", about=about, each=each) for each in explained}
        self._explained_at = {each.code: each.page for each in explained}

    def routes(self) -> list[web.RouteDef]:
        """GET /openapi.json, /docs and /problems/{problem}. From now on this process's problems link to these."""
        explained_at(self._explained_at)
        return [
            web.get(OPENAPI, self.openapi),
            web.get(DOCS, self.docs),
            web.get(page_of("{problem}"), self.page),
        ]

    async def problems(self, request: web.Request) -> web.Response:
        """Every code that this service refuses with: its status, its title, and what a client does about it."""
        return self._problems.answer(request)

    async def openapi(self, request: web.Request) -> web.Response:
        """The document, which any site may read; 304 to a client that holds it."""
        return self._document.answer(request)

    async def docs(self, request: web.Request) -> web.Response:
        """The same for people to read."""
        return self._docs.answer(request)

    async def page(self, request: web.Request) -> web.Response:
        """What one code means, in Vietnamese and in English. Raises NoSuchPath."""
        page = self._pages.get(request.match_info["problem"])
        if page is None:
            raise NoSuchPath
        return page.answer(request)


def _page(template: str, **context: Any) -> Finished:
    text = _environment.get_template(template).render(style=Markup(_STYLE), **context)  # noqa: S704 - a file of ours
    headers = {
        **_KEPT,
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }
    return Finished(text.encode(), "text/html; charset=utf-8", headers)


def _operations(endpoints: Iterable[Endpoint], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the page shows of each operation besides what the document says of it."""
    return [
        {
            "method": each.method,
            "path": path(each),
            "told": told["paths"][path(each)][each.method.lower()],
            "example": _curl(each, told["paths"][path(each)][each.method.lower()].get("parameters", ())),
            "answer": each.example.answer and _shown(each.example.answer),
            "refusals": explain(each.all_refusals - {*GENERAL}),
            "tells": explain(each.tells),
            "action": each.action,
        }
        for each in endpoints
    ]


def _curl(endpoint: Endpoint, parameters: Iterable[Mapping[str, Any]]) -> str:
    """The example as a command; API and TOKEN are variables of the shell."""
    query = {each["name"]: each["example"] for each in parameters if each["in"] == "query" and "example" in each}
    address = example_path(endpoint) + (f"?{urlencode(query)}" if query else "")
    words = ["curl -s", *([] if endpoint.method == "GET" else [f"-X {endpoint.method}"]), f'"$API{address}"']
    headers = {"Authorization": "Bearer $TOKEN"} if endpoint.action is not None else {}
    lines = [f'-H "{name}: {value}"' for name, value in (headers | example_headers(endpoint)).items()]
    if endpoint.lines:
        lines.append('-H "Content-Type: application/x-ndjson"')
        lines.append(f"--data-binary {shlex.quote(lines_of(endpoint.example.body or ()))}")
    elif endpoint.example.body is not None:
        lines.append(f"-d {shlex.quote(_shown(endpoint.example.body))}")
    return " \\\n  ".join([" ".join(words), *lines])


def example_path(endpoint: Endpoint) -> str:
    """The path of the endpoint's example."""
    values = {each.name: quote(str(each.example), safe="") for each in endpoint.parameters if each.place == "path"}
    return path(endpoint).format(**values)


def example_headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of the endpoint's example, without the token."""
    return {
        each.name: str(each.example)
        for each in endpoint.parameters
        if each.place == "header" and each.example is not None
    }


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


# -- filters of the templates ----------------------------------------------------------------------------------


def _prose(text: str) -> Markup:
    """Paragraphs of a description; what stands in backquotes is code."""
    paragraphs = [Markup("<p>{}</p>").format(_inline(" ".join(each.split()))) for each in text.split("\n\n")]
    return Markup("\n").join(paragraphs)


def _inline(text: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _type(schema: Mapping[str, Any]) -> Markup:
    """A JSON Schema in words, with links to the types on the same page."""
    if "$ref" in schema:
        return Markup('<a href="#{0}">{0}</a>').format(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return Markup(" or ").join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return Markup(" | ").join(Markup("<code>{}</code>").format(each) for each in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return Markup("list of {}{}").format(_type(schema.get("items", {})), _limits(schema, "Items", ""))
    if kind == "object" and "additionalProperties" in schema:
        return Markup("object with values {}").format(_type(schema["additionalProperties"]))
    if kind == "string":
        named = {"date-time": "time (RFC 3339)", "date": "date"}.get(schema.get("format", ""), "text")
        return Markup("{}{}").format(named, _limits(schema, "Length", " characters"))
    return Markup("{}{}").format(kind, _limits(schema, "imum", ""))


def _limits(schema: Mapping[str, Any], what: str, unit: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is None and most is None:
        return ""
    if most is None:
        return f", at least {least}{unit}"
    return f", {least or 0}–{most}{unit}" if least != most else f", {most}{unit}"


_environment.filters |= {"prose": _prose, "inline": _inline, "type": _type}
_environment.globals |= {"general": explain(GENERAL), "openapi": OPENAPI, "docs": DOCS, "problems": PROBLEMS}
