"""The OpenAPI 3.1 document of a service, made from the declarations of its endpoints."""

import inspect
import re
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import hdrs

from ops.errors import Kind, Refusal
from ops.http.endpoints import ANY_CLIENT, Endpoint
from ops.http.parameters import Parameter
from ops.http.problems import HTTP_STATUS, Problem

REFERENCE = "#/components/schemas/{name}"
BEARER = "bearer"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """What the service sends to an address that a client named: a POST with a body of the type `sends`.

    `says`: one paragraph for partners. `parameters`: the headers it has.
    """

    name: str
    sends: type[msgspec.Struct]
    says: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, kw_only=True)
class About:
    """What a document says of the service. `says`: a paragraph. `server`: its address; "/" is the document's own."""

    title: str
    says: str
    server: str = "/"
    credentials: str = ""
    """How a client gets its bearer token; empty where no endpoint asks for one."""


def document(about: About, endpoints: Iterable[Endpoint], webhooks: Iterable[Webhook] = ()) -> dict[str, Any]:
    """The document, to be encoded as JSON.

    Raises ValueError when two operations, deliveries among them, have the same name.
    """
    endpoints, webhooks = list(endpoints), list(webhooks)
    names = [*(each.operation for each in endpoints), *(each.name for each in webhooks)]
    if len(set(names)) < len(names):
        raise ValueError(f"two operations have the same name: {', '.join(sorted(names))}")
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for each in endpoints:
        paths[path(each)][each.method.lower()] = _operation(each)
    told: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {"title": about.title, "version": "1", "description": about.says},
        "servers": [{"url": about.server}],
        "paths": dict(paths),
        "components": {"schemas": schemas(endpoints, webhooks)},
    }
    if webhooks:
        told["webhooks"] = {each.name: {"post": _delivery(each)} for each in webhooks}
    if any(each.action is not None for each in endpoints):
        scheme = {"type": "http", "scheme": "bearer", "description": about.credentials}
        told["components"]["securitySchemes"] = {BEARER: scheme}
    return told


def path(endpoint: Endpoint) -> str:
    """The endpoint's path with the bare names of its parameters: `/api/v1/dossiers/{code}`."""
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", endpoint.path)


def operation_words(handler: Any) -> tuple[str, str]:
    """The first paragraph of a handler's docstring without its full stop, and the rest."""
    first, _, rest = (inspect.getdoc(handler) or "").partition("\n\n")
    return " ".join(first.split()).removesuffix("."), rest


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    summary, description = operation_words(endpoint.handler)
    found: dict[str, Any] = {"operationId": endpoint.operation, "summary": summary}
    if endpoint.action is not None:
        found["security"] = [{BEARER: []}]
        needs = "For any client." if endpoint.action == ANY_CLIENT else f"Needs the action `{endpoint.action}`."
        description = f"{description}\n\n{needs}".strip()
    if description:
        found["description"] = description
    if endpoint.retires is not None:
        found["deprecated"] = True
    if parameters := [*map(_parameter, endpoint.parameters), *_asked(endpoint)]:
        found["parameters"] = parameters
    if endpoint.takes is not None:
        found["requestBody"] = {
            "required": True,
            "content": _content(endpoint, (endpoint.takes,), endpoint.example.body),
        }
    found["responses"] = _responses(endpoint)
    return found


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"name": str(parameter.name), "in": parameter.place, "description": parameter.says}
    if parameter.required:
        found["required"] = True
    found["schema"] = msgspec.json.schema(parameter.type)
    if parameter.example is not None:
        found["example"] = parameter.example
    return found


def _asked(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """The fields of the type that the query string is read as."""
    if endpoint.asks is None:
        return
    _, components = msgspec.json.schema_components([endpoint.asks], ref_template=REFERENCE)
    shape = components[endpoint.asks.__name__]
    for name, schema in shape["properties"].items():
        # A parameter that may be left out has no null: None is what the handler gets then.
        kinds = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
        said: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        usual = schema.pop("default", None)
        if usual is not None:
            said["default"] = usual
        found = {"name": name, "in": "query", "description": said.pop("description", "")}
        if name in shape.get("required", ()):
            found["required"] = True
        for example in said.pop("examples", ())[:1]:
            found["example"] = example
        yield found | {"schema": said}


def _content(endpoint: Endpoint, shapes: Iterable[type[msgspec.Struct]], example: Any) -> dict[str, Any]:
    media = "application/x-ndjson" if endpoint.lines else "application/json"
    found: dict[str, Any] = {"schema": _any_of(shapes)}
    if endpoint.lines:
        found["schema"]["description"] = "Each line is one such object."
    if example is not None:
        found["example"] = lines_of(example) if endpoint.lines else example
    return {media: found}


def lines_of(values: Iterable[Any]) -> str:
    """These values as application/x-ndjson."""
    return "".join(f"{msgspec.json.encode(each).decode()}\n" for each in values)


def _any_of(shapes: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    references = [{"$ref": REFERENCE.format(name=shape.__name__)} for shape in shapes]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    if endpoint.media:
        done["content"] = {endpoint.media: {"schema": {"type": "string", "contentMediaType": endpoint.media}}}
    if endpoint.shapes:
        done["content"] = _content(endpoint, endpoint.shapes, endpoint.example.answer)
    found = {str(endpoint.status): done}
    if endpoint.redirects:
        found["301"] = {"description": endpoint.redirects, "headers": {"Location": {"schema": {"type": "string"}}}}
    if any(each.name == hdrs.IF_NONE_MATCH for each in endpoint.parameters):
        found["304"] = {"description": "The client holds the newest answer."}
    for status, refusals in by_status(endpoint.all_refusals).items():
        found[str(status)] = _refused(refusals)
    return dict(sorted(found.items()))


def by_status(refusals: Iterable[type[Refusal]]) -> dict[int, list[type[Refusal]]]:
    """HTTP status → the refusals with it, one for each code, in the order of their codes."""
    found: dict[int, dict[str, type[Refusal]]] = defaultdict(dict)
    for each in sorted(refusals, key=lambda each: (each.code, len(each.__mro__))):
        found[HTTP_STATUS[each.kind]].setdefault(each.code, each)
    return {status: list(found[status].values()) for status in sorted(found)}


def _refused(refusals: list[type[Refusal]]) -> dict[str, Any]:
    schema = _any_of([Problem]) | {"properties": {"code": {"enum": [each.code for each in refusals]}}}
    found: dict[str, Any] = {
        "description": "\n".join(f"`{each.code}`: {each.title}" for each in refusals),
        "content": {"application/problem+json": {"schema": schema}},
    }
    if any(each.usual_retry_after or each.kind is Kind.LIMITED for each in refusals):
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


def _delivery(webhook: Webhook) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": _any_of([webhook.sends])}}}
    return {
        "operationId": webhook.name,
        "description": webhook.says,
        "parameters": [*map(_parameter, webhook.parameters)],
        "requestBody": body,
        "responses": {"2XX": {"description": "Taken; nothing of the answer is read."}},
    }


# -- schemas ---------------------------------------------------------------------------------------------------


def schemas(endpoints: Iterable[Endpoint], webhooks: Iterable[Webhook] = ()) -> dict[str, Any]:
    """Name → JSON Schema of every type that endpoints and webhooks name, and of those within."""
    roots: set[Any] = {Problem, *(each.sends for each in webhooks)}
    for each in endpoints:
        roots |= {*each.shapes, *([each.takes] if each.takes else [])}
    _, found = msgspec.json.schema_components(shapes_within(roots), ref_template=REFERENCE)
    return {name: _cleaned(found[name]) for name in sorted(found)}


def shapes_within(roots: Iterable[Any]) -> set[type[msgspec.Struct]]:
    """These Structs and all that are fields of them, wherever they stand in a field's type."""
    found: set[type[msgspec.Struct]] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            if each not in found:
                found.add(each)
                waiting.extend(typing.get_type_hints(each, include_extras=True).values())
            continue
        for meta in getattr(each, "__metadata__", ()):
            waiting.extend((meta.extra or {}).get("one_of", ()))
        waiting.extend(typing.get_args(each))
    return found


def _cleaned(schema: Any) -> Any:
    """The same with docstrings as they read: without the indentation of the source."""
    if isinstance(schema, list):
        return [_cleaned(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        name: inspect.cleandoc(each) if name == "description" and isinstance(each, str) else _cleaned(each)
        for name, each in schema.items()
    }
