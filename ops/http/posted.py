"""Forms that pages send: their fields, and whether it was a page of ours that sent them."""

from urllib.parse import parse_qsl

from aiohttp import web

from ops.http.bodies import read_body

_OURS = frozenset({"same-origin", "none"})


async def fields(request: web.Request) -> dict[str, str]:
    """The fields of a form body, empty ones too, whatever its content type; none for one that no form of ours sends.

    Raises as `read_body`.
    """
    body = await read_body(request)
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=16))
    except ValueError:
        return {}


def is_ours(request: web.Request) -> bool:
    """Whether a browser sent this from a page of ours; True for an old one, which does not say.

    Origin cannot tell: our pages send no referrer, and with that policy browsers say `null` there.
    """
    return request.headers.get("Sec-Fetch-Site", "same-origin") in _OURS
