"""Answers that are made once for many requests: gzip for a client that accepts it, the bytes as they are for any other.

No brotli: it would save 350 bytes of the style sheet once a year, for a dependency (DECISIONS.md).
"""

import functools
import gzip
import hashlib
import zlib
from collections.abc import Mapping

from aiohttp import hdrs, web

ETAG = "ETag"
"""As the JSON spells it; hdrs has another spelling."""

_GZIP = frozenset({"gzip", "x-gzip"})
_LONGEST = 256
"""Characters of an Accept-Encoding that is read. Browsers send some twenty; a header of 8 kB takes a millisecond."""


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client with this Accept-Encoding accepts gzip (RFC 9110, 12.5.3); without the header, and with one of
    more than 256 characters, it does not."""
    return len(accept_encoding) <= _LONGEST and _takes_gzip(accept_encoding)


@functools.lru_cache(maxsize=1024)
def _takes_gzip(accept_encoding: str) -> bool:
    accepts = others = False
    for part in accept_encoding.split(","):
        coding, _, parameter = part.strip().lower().partition(";")
        if coding.strip() in _GZIP:
            accepts = _is_positive(parameter)
            break
        others = others or (coding.strip() == "*" and _is_positive(parameter))
    else:
        accepts = others
    return accepts


def _is_positive(parameter: str) -> bool:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return True
    try:
        return float(value) > 0
    except ValueError:
        return False


def gzip_of(request: web.Request) -> bool:
    """Whether the client of this request accepts gzip."""
    return takes_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())))


def matches(request: web.Request, etag: str) -> bool:
    """Whether the client already holds this entity tag (RFC 9110, 13.1.2: weak comparison)."""
    held = request.if_none_match
    return held is not None and any(tag.value in ("*", etag.strip('"')) for tag in held)


def packed_once(content: bytes) -> bytes:
    """Content that is sent many times, as small as gzip makes it (50 µs for a page)."""
    return gzip.compress(content, 9, mtime=0)


VARY = hdrs.ACCEPT_ENCODING


class Finished:
    """Content that is made once for many requests, in both codings, each with its strong entity tag."""

    def __init__(self, content: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        self.content = content
        self.packed = packed_once(content)
        self._content_type = content_type
        self._headers = headers
        digest = hashlib.sha256(content + zlib.ZLIB_RUNTIME_VERSION.encode()).hexdigest()[:16]
        self.tags = (f'"{digest}"', f'"{digest}.gz"')

    def answer(self, request: web.Request, headers: Mapping[str, str] | None = None) -> web.Response:
        """200, or 304 when the client holds it. `headers` replace those of the same name."""
        packed = gzip_of(request)
        response = self.response(packed)
        response.headers.update(headers or {})
        if matches(request, response.headers[ETAG]):
            return not_modified(response)
        return response

    def response(self, packed: bool) -> web.Response:
        """The whole answer in this coding."""
        headers = {**self._headers, hdrs.VARY: VARY, ETAG: self.tags[packed]}
        if packed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        response = web.Response(body=self.packed if packed else self.content, headers=headers)
        response.headers[hdrs.CONTENT_TYPE] = self._content_type
        return response


def not_modified(response: web.Response) -> web.Response:
    """The 304 in place of this response: its headers without those about a body (RFC 9110, 15.4.5)."""
    about_body = (hdrs.CONTENT_TYPE, hdrs.CONTENT_ENCODING)
    return web.Response(status=304, headers={k: v for k, v in response.headers.items() if k not in about_body})
