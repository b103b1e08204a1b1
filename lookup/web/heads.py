"""Heads of early answers: taken once from the Response that a handler would return, and filled in for each request.

So a header is written in one place, where the Response is made, and both ways send it.
"""

import re

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from ops.http.middleware import dress
from ops.observe import logs

OWN, TAG, REQUEST_ID, LENGTH = (chr(0xE000 + n) for n in range(4))
"""What stands in a Response in the place of values that each request has of its own.

OWN: what the head says of its dossier, a JSON's age or the path of a page's address.
"""

_NAMES = ("own", "entity tag", "request id", "length")
_MARKS = re.compile(f"([{OWN}-{LENGTH}])")


class Head:
    """A response's head, left open where it has the marks of this module, each once at most and in their order.

    Raises ValueError for another order: then the headers of the Response have to change places.
    """

    __slots__ = ("_parts",)

    def __init__(self, response: web.Response) -> None:
        before = logs.request_id.set(REQUEST_ID)
        text = _head(response, LENGTH)
        logs.request_id.reset(before)
        first, *rest = _MARKS.split(text)
        at = [ord(mark) - ord(OWN) for mark in rest[0::2]]
        if at != sorted(set(at)):
            raise ValueError(f"The head has to name {', '.join(_NAMES)} in this order, once each, not: {text!r}")
        after = dict(zip(at, rest[1::2], strict=True))
        self._parts = (first.encode(), *(after.get(n, "").encode() for n in range(3)))

    def before(self, own: bytes, tag: bytes, request_id: bytes, length: bytes, date: bytes, body: bytes) -> bytes:
        """The whole answer. What the head does not have must be empty. `date`: as of `date_line`."""
        first, second, third, fourth = self._parts
        return b"".join((first, own, second, tag, third, request_id, fourth, length, date, body))


def date_line() -> bytes:
    """The end of every head, with the date in it: good for this second."""
    return f"\r\n{hdrs.DATE}: {rfc822_formatted_time()}\r\n\r\n".encode()


def written(response: web.Response, *, dressed_as: str, head: bool) -> bytes:
    """The bytes aiohttp would write for this response on a keep-alive HTTP/1.1 connection."""
    logs.request_id.set(dressed_as)
    body = response.body
    assert body is None or isinstance(body, bytes)  # noqa: S101 - ours never stream
    text = _head(response, str(len(body or b"")))
    return text.encode() + date_line() + (b"" if head or body is None else body)


def _head(response: web.Response, length: str) -> str:
    """All of the head before its date."""
    dress(response)
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != 304:
        lines.append(f"{hdrs.CONTENT_LENGTH}: {length}")
    return "\r\n".join(lines)
