"""Reading a request's body within a deadline; compressed bodies are refused."""

import asyncio

from aiohttp import hdrs, web

from ops.errors import Kind, Malformed, Refusal

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""


class BodyTooSlow(Malformed):
    """The client began a body and did not finish it."""

    code = "body_too_slow"
    title = "The body did not arrive in time."
    title_vi = "Nội dung yêu cầu không đến đủ trong thời hạn."


class UnsupportedCoding(Refusal):
    """The body is compressed. A server does not unpack what a stranger has packed."""

    kind = Kind.UNSUPPORTED
    code = "unsupported_content_coding"
    title = "The body is compressed, which is not taken here."
    title_vi = "Không nhận nội dung yêu cầu đã nén."


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises UnsupportedCoding for a compressed one, and BodyTooSlow after BODY_SECONDS, also for a
    chunked body that breaks off in the middle, which aiohttp would wait for until the client leaves."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise UnsupportedCoding
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None
