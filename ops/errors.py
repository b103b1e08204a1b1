"""How a service says no: a closed set of kinds, and one exception class per reason.

A Refusal is an answer, not an accident. Its code is a promise to clients and never changes; what goes
out is what its raiser put in, so nothing about a person or a secret gets there by itself.
"""

import enum
from typing import ClassVar


class Kind(enum.Enum):
    """Every way of saying no. ops/http/problems.py alone knows which HTTP status each kind has."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD = "method"
    CONFLICT = "conflict"
    PRECONDITION = "precondition"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNPROCESSABLE = "unprocessable"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Refusal(Exception):
    """A request that is answered with no.

    `detail` says what was wrong this time. `retry_after` is in seconds. Everything else given by name
    becomes a member of the problem document, `allowed=["withdrawn"]` for example.
    """

    kind: ClassVar[Kind]
    code: ClassVar[str]
    title: ClassVar[str]
    title_vi: ClassVar[str]
    usual_retry_after: ClassVar[int | None] = None

    def __init__(self, detail: str = "", *, retry_after: int | None = None, **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = self.usual_retry_after if retry_after is None else retry_after
        self.members = members

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.title}"


class Malformed(Refusal):
    """The request cannot be understood."""

    kind = Kind.INVALID
    code = "malformed"
    title = "The request is malformed."
    title_vi = "Yêu cầu không đúng định dạng."


class NoSuchPath(Refusal):
    """Nothing lives at this address."""

    kind = Kind.NOT_FOUND
    code = "not_found"
    title = "There is nothing at this address."
    title_vi = "Không có nội dung tại địa chỉ này."


class MethodNotAllowed(Refusal):
    """The address exists, but not for this method."""

    kind = Kind.METHOD
    code = "method_not_allowed"
    title = "This address does not take this method."
    title_vi = "Địa chỉ này không nhận phương thức được dùng."


class TooLarge(Refusal):
    """The body is larger than what is read."""

    kind = Kind.TOO_LARGE
    code = "too_large"
    title = "The request is too large."
    title_vi = "Yêu cầu vượt quá kích thước cho phép."


class Unavailable(Refusal):
    """Something this answer needs cannot be reached now, or did not answer in time."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"
    title = "The answer cannot be given now. Please try again shortly."
    title_vi = "Hiện chưa thể trả lời. Vui lòng thử lại sau ít phút."
    usual_retry_after = 1

    def __init__(
        self, detail: str = "", *, reason: str = "", retry_after: int | None = None, **members: object
    ) -> None:
        """`reason` is for the log and for /health, and may name hosts and files; it never goes out to a client."""
        super().__init__(detail, retry_after=retry_after, **members)
        self.reason = reason

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})" if self.reason else super().__str__()


class OurOwnDelay(Unavailable):
    """No answer in time, but this process was late itself: it says nothing about whoever was asked."""


class Internal(Refusal):
    """A fault of ours. What it was stands in the log, under the request id, and nowhere else."""

    kind = Kind.INTERNAL
    code = "internal"
    title = "Something went wrong on our side."
    title_vi = "Đã xảy ra lỗi trong hệ thống."
