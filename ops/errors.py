"""Refusals: a closed set of kinds, and one exception class per reason.

A Refusal is an expected answer, not a bug. Its code never changes, because clients depend on it. An answer contains
only what the raiser passed, so that no personal data or secret is sent by accident.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Self


class Kind(enum.Enum):
    """All kinds of refusals. Only ops/http/problems.py maps them to HTTP statuses."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD = "method"
    CONFLICT = "conflict"
    GONE = "gone"
    PRECONDITION = "precondition"
    TOO_LARGE = "too_large"
    ADDRESS_TOO_LONG = "address_too_long"
    UNSUPPORTED = "unsupported"
    EXPECTATION = "expectation"
    UNPROCESSABLE = "unprocessable"
    LIMITED = "limited"
    HEAD_TOO_LARGE = "head_too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Refusal(Exception):
    """A refused request.

    `detail` states what was wrong in this request, `detail_vi` the same in Vietnamese (without it, `detail` again).
    `retry_after` is in seconds. Any other named argument becomes a member of the problem document, for example
    `allowed=["withdrawn"]`. `title` and `title_vi` are one sentence each: the problem document's title, and the
    sentence on a page that shows the refusal.
    """

    kind: ClassVar[Kind]
    code: ClassVar[str]
    title: ClassVar[str]
    title_vi: ClassVar[str]
    usual_retry_after: ClassVar[int | None] = None
    advice: ClassVar[str] = ""
    advice_vi: ClassVar[str] = ""
    """What the developer of a client should do, one or two sentences. Empty: what ops/http/explained.py says of the
    kind."""
    repeating_helps: ClassVar[bool] = False
    """Whether the same request may succeed later, unchanged."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Added to its answer."""

    def __init__(
        self, detail: str = "", *, detail_vi: str = "", retry_after: int | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.detail_vi = detail_vi or detail
        self.retry_after = self.usual_retry_after if retry_after is None else retry_after
        self.members = members

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """The same refusal, with these headers in its answer."""
        self.headers = headers
        return self

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.title}"


class Malformed(Refusal):
    """The request cannot be understood."""

    kind = Kind.INVALID
    code = "malformed"
    title = "The request is malformed."
    title_vi = "Yêu cầu không đúng định dạng."


class NoSuchPath(Refusal):
    """No resource has this address."""

    kind = Kind.NOT_FOUND
    code = "not_found"
    title = "There is nothing at this address."
    title_vi = "Không có nội dung tại địa chỉ này."


class MethodNotAllowed(Refusal):
    """The resource does not support this method."""

    kind = Kind.METHOD
    code = "method_not_allowed"
    title = "This address does not take this method."
    title_vi = "Địa chỉ này không nhận phương thức được dùng."
    advice = "Use one of the methods that the header Allow names."
    advice_vi = "Dùng một trong các phương thức nêu trong tiêu đề Allow."


class TooLarge(Refusal):
    """The body exceeds the size limit."""

    kind = Kind.TOO_LARGE
    code = "too_large"
    title = "The request is too large."
    title_vi = "Yêu cầu vượt quá kích thước cho phép."


class AddressTooLong(Refusal):
    """The address exceeds the size limit."""

    kind = Kind.ADDRESS_TOO_LONG
    code = "address_too_long"
    title = "This address is too long."
    title_vi = "Địa chỉ vừa mở quá dài."


class HeadTooLarge(Refusal):
    """A header exceeds the size limit, or there are too many; usually the cookies of other applications."""

    kind = Kind.HEAD_TOO_LARGE
    code = "head_too_large"
    title = "The headers of this request are too large, usually because of cookies."
    title_vi = "Phần đầu của yêu cầu quá lớn, thường là do cookie."


class Unavailable(Refusal):
    """A dependency cannot be reached now, or did not answer in time."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"
    title = "The answer cannot be given now. Please try again shortly."
    title_vi = "Hiện chưa thể trả lời. Vui lòng thử lại sau ít phút."
    usual_retry_after = 1
    repeating_helps = True

    def __init__(
        self,
        detail: str = "",
        *,
        reason: str = "",
        detail_vi: str = "",
        retry_after: int | None = None,
        **members: object,
    ) -> None:
        """`reason` is for the log and /health, and may name hosts and files; it is never sent to a client."""
        super().__init__(detail, detail_vi=detail_vi, retry_after=retry_after, **members)
        self.reason = reason

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})" if self.reason else super().__str__()


class OurOwnDelay(Unavailable):
    """A timeout while this process was late itself: it does not show that the dependency failed."""


class Internal(Refusal):
    """An unexpected error. Only the log contains it, under the request id."""

    kind = Kind.INTERNAL
    code = "internal"
    title = "Something went wrong on our side."
    title_vi = "Đã xảy ra lỗi trong hệ thống."
    repeating_helps = True
