"""Every refusal of a service explained to the developers of its clients, in Vietnamese and English.

Titles and advice are those of the classes. The codes that this process explains are known to `ops.http.problems`, which
links their answers to their pages.
"""

from collections.abc import Iterable

import msgspec

from ops.errors import Kind, Refusal
from ops.http.problems import HTTP_STATUS, TYPE

ADVICE: dict[Kind, tuple[str, str]] = {
    Kind.INVALID: (
        "Correct the request before you send it again; `detail` says what is wrong.",
        "Sửa yêu cầu trước khi gửi lại; detail cho biết sai ở đâu.",
    ),
    Kind.UNAUTHENTICATED: (
        "Send a valid token in the header Authorization: Bearer …. The operator issues tokens.",
        "Gửi mã truy cập hợp lệ trong tiêu đề Authorization: Bearer …. Đơn vị vận hành cấp mã truy cập.",
    ),
    Kind.FORBIDDEN: (
        "Ask the operator for the permission; `detail` says which is missing.",
        "Đề nghị đơn vị vận hành cấp quyền; detail cho biết thiếu quyền nào.",
    ),
    Kind.NOT_FOUND: ("Check the address and the code in it.", "Kiểm tra lại địa chỉ và mã trong địa chỉ."),
    Kind.METHOD: ("Use another method.", "Dùng phương thức khác."),
    Kind.CONFLICT: (
        "Read the dossier again and decide by its state now; `detail` says what is in the way.",
        "Đọc lại hồ sơ và quyết định theo tình trạng hiện tại; detail cho biết vướng ở đâu.",
    ),
    Kind.GONE: (
        "What was here is gone for good; `detail` says how to go on.",
        "Nội dung ở đây không còn nữa; detail cho biết cách tiếp tục.",
    ),
    Kind.PRECONDITION: (
        "Read the dossier again, and send the request with its version now.",
        "Đọc lại hồ sơ, rồi gửi yêu cầu kèm phiên bản hiện tại.",
    ),
    Kind.TOO_LARGE: ("Send less in one request.", "Gửi ít hơn trong một yêu cầu."),
    Kind.ADDRESS_TOO_LONG: ("Shorten the address.", "Rút ngắn địa chỉ."),
    Kind.UNSUPPORTED: (
        "Send the body in the form that the documentation of this address names.",
        "Gửi nội dung theo đúng dạng nêu trong tài liệu của địa chỉ này.",
    ),
    Kind.EXPECTATION: ("Leave out the header Expect.", "Bỏ tiêu đề Expect."),
    Kind.UNPROCESSABLE: (
        "Correct the content; `detail` names the field or the rule.",
        "Sửa nội dung; detail nêu trường hoặc quy tắc liên quan.",
    ),
    Kind.LIMITED: (
        "Wait for the seconds in Retry-After, and send fewer requests.",
        "Chờ số giây ghi ở Retry-After, và gửi ít yêu cầu hơn.",
    ),
    Kind.HEAD_TOO_LARGE: (
        "Send fewer and shorter headers; cookies are not needed here.",
        "Gửi ít tiêu đề hơn và ngắn hơn; không cần gửi cookie.",
    ),
    Kind.UNAVAILABLE: (
        "Send the same request again after the seconds in Retry-After.",
        "Gửi lại đúng yêu cầu đó sau số giây ghi ở Retry-After.",
    ),
    Kind.INTERNAL: (
        "Send the same request once more; if it fails again, tell the operator the `request_id`.",
        "Gửi lại yêu cầu một lần; nếu vẫn lỗi, báo request_id cho đơn vị vận hành.",
    ),
}
"""What a client does about each kind of refusal, in English and in Vietnamese, where the class says nothing closer."""


class ExplainedProblem(msgspec.Struct, frozen=True):
    """One code that an answer may be refused with. `meaning` is in English only.

    `repeating_helps`: whether the same request may succeed later, unchanged. `retry_after`: the usual seconds to wait,
    null when they depend on the request or are not known. `page` explains it to people.
    """

    code: str
    type: str
    status: int
    title: str
    title_vi: str
    meaning: str
    advice: str
    advice_vi: str
    repeating_helps: bool
    retry_after: int | None
    page: str


class ExplainedProblems(msgspec.Struct, frozen=True):
    """Everything that this service refuses with, by status and code."""

    problems: list[ExplainedProblem]


def explain(refusals: Iterable[type[Refusal]]) -> list[ExplainedProblem]:
    """These refusals, by status and code; of two classes with one code the more general one."""
    found: dict[str, type[Refusal]] = {}
    for each in sorted(refusals, key=lambda each: (HTTP_STATUS[each.kind], each.code, len(each.__mro__))):
        found.setdefault(each.code, each)
    return [_explained(each) for each in found.values()]


def page_of(code: str) -> str:
    """The path of the page about this code."""
    return f"/problems/{code}"


def _explained(refusal: type[Refusal]) -> ExplainedProblem:
    english, vietnamese = ADVICE[refusal.kind]
    return ExplainedProblem(
        code=refusal.code,
        type=TYPE + refusal.code,
        status=HTTP_STATUS[refusal.kind],
        title=refusal.title,
        title_vi=refusal.title_vi,
        meaning=" ".join((refusal.__doc__ or "").split()),
        advice=refusal.advice or english,
        advice_vi=refusal.advice_vi or vietnamese,
        repeating_helps=refusal.repeating_helps,
        retry_after=refusal.usual_retry_after,
        page=page_of(refusal.code),
    )
