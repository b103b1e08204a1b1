"""What the endpoints declare, compared with what they answer in any test of this process.

`watched` notes each refusal that its endpoint does not declare, and each content that is not what it gives. The fixture
in tests/conftest.py fails the test. The early way's refusals count as those of the endpoint that it answers for.
"""

import functools
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import hdrs, web

from lookup.web import api
from lookup.web.answers import PATH
from lookup.web.faces import JsonFace
from ops.errors import Refusal
from ops.http import middleware
from ops.http.endpoints import Endpoint, _Served, encode, endpoint_of

_NOTHING: Any = None
(_DOSSIER,) = (each for each in api.endpoints(_NOTHING, _NOTHING) if each.path.startswith(PATH))


def watched(patch: Any) -> list[str]:
    """A sentence for everything that is answered undeclared, from now on until `patch` is undone."""
    found: list[str] = []
    understood, refused, answer = middleware._understood, JsonFace.refused, _Served.answer

    def refusing(endpoint: Endpoint | None, refusal: Refusal) -> None:
        if endpoint is not None and type(refusal) not in endpoint.all_refusals:
            found.append(
                f"{endpoint.method} {endpoint.path} refuses with {type(refusal).__name__} and does not declare it: "
                "add it to `refuses` where the endpoint is declared."
            )

    def understand(request: web.Request, error: BaseException) -> Refusal:
        refusal = understood(request, error)  # type: ignore[arg-type]
        refusing(endpoint_of(request), refusal)
        return refusal

    def refuse(
        face: JsonFace, refusal: Refusal, path: str, code: str, headers: Mapping[str, str], *, gzip: bool
    ) -> Any:
        refusing(_DOSSIER, refusal)
        return refused(face, refusal, path, code, headers, gzip=gzip)

    async def respond(served: _Served, request: web.Request) -> web.StreamResponse:
        response = await answer(served, request)
        endpoint = served.endpoint
        for code in _told_in(endpoint, response):
            found.append(
                f"{endpoint.method} {endpoint.path} tells of {code} in a line and does not declare it: "
                "add it to `tells` where the endpoint is declared."
            )
        if not _as_declared(endpoint, response):
            given = " or ".join(shape.__name__ for shape in endpoint.shapes)
            found.append(
                f"{endpoint.method} {endpoint.path} answers {response.status} with another content than {given}, "
                f"status {endpoint.status}: {getattr(response, 'body', None)!r:.200}"
            )
        return response

    patch.setattr(middleware, "_understood", understand)
    patch.setattr(JsonFace, "refused", refuse)
    patch.setattr(_Served, "answer", respond)
    return found


def _told_in(endpoint: Endpoint, response: web.StreamResponse) -> set[str]:
    """The codes of refusals in the lines of an answer that its endpoint does not declare."""
    body = getattr(response, "body", None)
    if not endpoint.lines or not isinstance(body, bytes):
        return set()
    told = {msgspec.json.decode(line).get("code") for line in body.splitlines()}
    return told - {None} - {each.code for each in (*endpoint.all_refusals, *endpoint.tells)}


def _as_declared(endpoint: Endpoint, response: web.StreamResponse) -> bool:
    """Whether it is a 304, or has the declared status and the bytes that one of the declared types would have."""
    if response.status == 304:
        return True
    body = getattr(response, "body", None)
    if response.status != endpoint.status:
        return False
    if endpoint.gives is None:
        return body is None or (endpoint.media is not None and response.content_type == endpoint.media)
    if not isinstance(body, bytes):
        return endpoint.lines
    if endpoint.lines:
        return all(any(fits(line, shape) for shape in endpoint.shapes) for line in body.splitlines())
    if response.headers.get(hdrs.CONTENT_ENCODING) is not None:
        return True
    return any(fits(body, shape) for shape in endpoint.shapes)


def fits(body: bytes, shape: type[msgspec.Struct]) -> bool:
    """Whether these bytes are a value of this type: no field more, none in another place."""
    try:
        value = msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError:
        return False
    return encode(value) == body and _inside(value, shape)


def _inside(value: Any, hint: Any) -> bool:
    """The same of what msgspec does not look into: JSON from elsewhere, and values of one of several types."""
    for meta in getattr(hint, "__metadata__", ()):
        shapes = (meta.extra or {}).get("one_of", ())
        if isinstance(value, msgspec.Raw):
            return all(any(_has_fields_of(item, shape) for shape in shapes) for item in msgspec.json.decode(value))
        if shapes:
            return any(fits(encode(value), shape) for shape in shapes)
    if isinstance(value, msgspec.Struct):
        return all(_inside(getattr(value, name), each) for name, each in _hints(type(value)).items())
    if isinstance(value, list):
        return all(_inside(item, each) for item in value for each in typing.get_args(hint))
    return True


def _has_fields_of(item: Any, shape: type[msgspec.Struct]) -> bool:
    try:
        msgspec.convert(item, shape)
    except msgspec.ValidationError:
        return False
    return set(item) <= set(shape.__struct_fields__)


@functools.cache
def _hints(shape: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(shape, include_extras=True)
