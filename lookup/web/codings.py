"""Content codings of pages: what is compressed for one answer, and finished content for the early way."""

import zlib
from collections.abc import Mapping

from aiohttp import hdrs, web

from lookup.web.heads import Head
from ops.http import finished
from ops.http.finished import not_modified

VARY_BY_COOKIE = f"{hdrs.ACCEPT_ENCODING}, {hdrs.COOKIE}"
"""Of a dossier's page, which is another one for the holder."""


def packed_now(response: web.Response, packed: bool) -> web.Response:
    """The same response with its body compressed, if `packed`: 20 µs, and less than half the bytes."""
    assert isinstance(response.body, bytes)  # noqa: S101 - ours never stream
    return coded(response, zlib.compress(response.body, level=3, wbits=31) if packed else response.body, packed)


def coded(response: web.Response, body: bytes, packed: bool) -> web.Response:
    """The same response with this body, which is gzip if `packed`."""
    response.body = body
    response.headers[hdrs.VARY] = VARY_BY_COOKIE
    if packed:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


class Finished(finished.Finished):
    """Finished content that the early way sends too."""

    def __init__(self, content: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(content, content_type, headers)
        self._heads: dict[tuple[int, bool], Head] = {}

    def early(self, held: bytes, request_id: bytes, date: bytes, *, gzip: bool, whole: bool) -> tuple[int, bytes]:
        """The status and the bytes of the same answer. `held`: one tag, or none; `whole`: with the body."""
        status = 304 if held == self.tags[gzip].encode() else 200
        head = self._heads.get((status, gzip))
        if head is None:
            response = self.response(gzip)
            head = self._heads[status, gzip] = Head(not_modified(response) if status == 304 else response)
        if status == 304:
            return 304, head.before(b"", b"", request_id, b"", date, b"")
        body = self.packed if gzip else self.content
        return 200, head.before(b"", b"", request_id, b"%d" % len(body), date, body if whole else b"")
