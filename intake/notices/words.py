"""Every sentence of notices, in Vietnamese and English.

None names a person, a service, a reason or a key: a mail is read by others than its receiver. A text message has no
link, only the host: people are told not to tap links.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

LONGEST_TEXT: Final = 160
"""Characters of a text message; in UCS-2 that is three parts. A longer one loses its last sentence."""


class Said(NamedTuple):
    """A notice's sentence, and the last one, which a text message leaves out where there is no room."""

    sentence: str
    last: str


_SEE, _SEE_EN = "Xem tại {site}", "Status: {site}"
_SEE_IT = "Xem tình trạng tại {site}"

VIETNAMESE: Final[Mapping[str, Said]] = {
    "accepted": Said("Hồ sơ {code} đã được tiếp nhận. Hẹn trả kết quả: {when}.", _SEE_IT),
    "accepted_without_date": Said("Hồ sơ {code} đã được tiếp nhận.", _SEE_IT),
    "supplement": Said(
        "Hồ sơ {code} cần bổ sung, hoàn thiện. Vui lòng thực hiện theo phiếu yêu cầu của cơ quan.", _SEE
    ),
    "refused": Said("Hồ sơ {code} không được tiếp nhận giải quyết. Lý do ghi trong phiếu từ chối của cơ quan.", _SEE),
    "re_appointment": Said("Hồ sơ {code} được hẹn lại ngày trả kết quả: {when}. Cơ quan xin lỗi vì sự chậm trễ.", _SEE),
    "ready": Said("Hồ sơ {code} đã giải quyết xong, đã có kết quả. Vui lòng nhận theo hình thức đã đăng ký.", _SEE),
    "returned": Said("Kết quả hồ sơ {code} đã được trả.", "Nếu chưa nhận được, vui lòng gọi {phone}."),
}
ENGLISH: Final[Mapping[str, Said]] = {
    "accepted": Said("Application {code} has been accepted. Result due at {when}.", _SEE_EN),
    "accepted_without_date": Said("Application {code} has been accepted.", _SEE_EN),
    "supplement": Said(
        "Application {code}: more is needed. Please follow the agency's request for supplements.", _SEE_EN
    ),
    "refused": Said("Application {code} was not accepted. The reason is in the agency's refusal notice.", _SEE_EN),
    "re_appointment": Said("Application {code}: the new due date is {when}. We apologise for the delay.", _SEE_EN),
    "ready": Said(
        "Application {code} has been decided; the result is ready. Receive it in the way you chose.", _SEE_EN
    ),
    "returned": Said(
        "The result of application {code} has been handed over.", "If you have not received it, call {phone}."
    ),
}
SUBJECTS: Final[Mapping[str, str]] = {
    "accepted": "đã được tiếp nhận",
    "accepted_without_date": "đã được tiếp nhận",
    "supplement": "cần bổ sung",
    "refused": "không được tiếp nhận",
    "re_appointment": "hẹn lại ngày trả kết quả",
    "ready": "đã có kết quả",
    "returned": "đã trả kết quả",
}
"""What follows "Hồ sơ {code}: " in a mail's subject."""

MAIL: Final = """\
Kính gửi ông/bà,

{said}

Xem tình trạng hồ sơ: {link}

Đây là thư tự động, vui lòng không trả lời. Liên hệ: {contact}.

Thư này không yêu cầu nộp tiền, mật khẩu hay mã OTP.

Không muốn nhận thư về hồ sơ này: {unsubscribe}

----------

Dear applicant,

{said_en}

See the status: {link}

This message was sent automatically; please do not reply. Contact: {contact_en}.

It does not ask for money, passwords or OTP codes.

Stop messages about this application: {unsubscribe}
"""

MORNING_SUBJECT: Final = "Hồ sơ quá hạn và đến hạn ngày {date}"
MORNING: Final = """\
Quá hạn: {late}. Đến hạn hôm nay: {today}, ngày mai: {tomorrow}. Chưa gửi văn bản xin lỗi: {apology}. \
Chờ tiếp nhận quá {hours} giờ làm việc: {undecided}.
"""
MORNING_LISTS: Final = {
    "undecided": "Chờ tiếp nhận",
    "late": "Quá hạn",
    "today": "Đến hạn hôm nay",
    "tomorrow": "Đến hạn ngày mai",
    "apology": "Chưa gửi văn bản xin lỗi",
}
"""What is owed → what its list of codes is called."""

PAGES: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("Ngừng nhận thông báo", "Stop messages"),
    "ask": ("Ngừng gửi thông báo về hồ sơ này?", "Stop messages about this application?"),
    "button": ("Ngừng nhận thông báo", "Stop messages"),
    "done": ("Đã ngừng gửi thông báo về hồ sơ này.", "You will get no more messages about this application."),
}
"""The words of the page that the link in a mail opens, in both languages."""
