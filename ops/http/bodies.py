"""Reading a request's body within a deadline; compressed bodies are refused."""

import asyncio

from aiohttp import hdrs, web

from ops.errors import Kind, Malformed, Refusal

BODY_SECONDS = 10.0
"""Timeout of a body, in seconds."""


class BodyTooSlow(Malformed):
    """The client started a body and did not finish it in time."""

    code = "body_too_slow"
    title = "The body did not arrive in time."
    title_vi = "Nội dung yêu cầu không đến đủ trong thời hạn."
    advice = "Send the whole body within ten seconds, over a better connection if need be."
    advice_vi = "Gửi trọn nội dung trong mười giây; nếu cần, dùng kết nối tốt hơn."
    repeating_helps = True


class UnsupportedCoding(Refusal):
    """The body is compressed. It is not unpacked, because a small body may expand to a huge one."""

    kind = Kind.UNSUPPORTED
    code = "unsupported_content_coding"
    title = "The body is compressed, which is not taken here."
    title_vi = "Không nhận nội dung yêu cầu đã nén."
    advice = "Send the body as it is, without Content-Encoding."
    advice_vi = "Gửi nội dung không nén, không kèm Content-Encoding."


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises UnsupportedCoding for a compressed one, and BodyTooSlow after BODY_SECONDS, also for a
    chunked body that stops in the middle, for which aiohttp would wait until the client disconnects."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise UnsupportedCoding
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None
