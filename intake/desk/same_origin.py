"""Whether a page of the desk sent a request that changes something (the rule of Go's CrossOriginProtection).

SameSite cookies do not do that: a page on another port of the same host is of the same site. No token is needed, and so
a form that was typed before a session ended can be sent again in the next one.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import hdrs

from ops.errors import Kind, Refusal

SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing; the desk answers no others without this rule."""


class ForeignForm(Refusal):
    """Another site's page sent this, or no browser did."""

    kind = Kind.FORBIDDEN
    code = "foreign_form"
    title = "This was not sent from a page of the desk."
    title_vi = "Yêu cầu này không được gửi từ trang của hệ thống. Vui lòng mở lại trang và thực hiện từ đó."


def require_same_origin(method: str, headers: Mapping[str, str]) -> None:
    """Raises ForeignForm unless the method is safe or a page of the same origin sent it.

    Sec-Fetch-Site decides where the browser sends it; over plain http it does not, and then Origin's host must be Host.
    """
    if method in SAFE:
        return
    site = headers.get("Sec-Fetch-Site")
    if site == "same-origin":
        return
    host = headers.get(hdrs.HOST)
    if site is None and host and urlsplit(headers.get(hdrs.ORIGIN, "")).netloc.lower() == host.lower():
        return
    raise ForeignForm
