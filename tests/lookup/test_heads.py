"""A head made from a Response and filled in is the head that would have been written for the Response."""

import pytest
from aiohttp import web

from lookup.web.heads import OWN, TAG, Head, date_line, written


def response(path: str, tag: str, body: bytes) -> web.Response:
    link = f'</tra-cuu/{path}>; rel="canonical"'
    return web.Response(body=body, headers={"X-Share": "100 %b", "Link": link, "ETag": tag})


def test_filled_in_it_is_what_would_have_been_written() -> None:
    head = Head(response(OWN, TAG, b""))
    filled = head.before(b"G99", b'"1"', b"an-id", b"4", date_line(), b"body")
    whole = written(response("G99", '"1"', b"body"), dressed_as="an-id", head=False)
    assert filled.replace(b"\r\nDate: ", b"") != filled
    assert without_date(filled) == without_date(whole)


def test_not_modified_has_no_length() -> None:
    head = Head(web.Response(status=304, headers={"ETag": TAG}))
    filled = head.before(b"", b'"1"', b"an-id", b"", date_line(), b"")
    assert b"Content-Length" not in filled
    assert without_date(filled) == without_date(
        written(web.Response(status=304, headers={"ETag": '"1"'}), dressed_as="an-id", head=False)
    )


def without_date(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"Date: ")]


@pytest.mark.parametrize("headers", [{"ETag": TAG, "Age": OWN}, {"Age": OWN, "X-Age": OWN}])
def test_other_order_is_refused_at_start(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="own, entity tag, request id, length in this order"):
        Head(web.Response(headers=headers))
