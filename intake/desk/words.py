"""The words of the desk's pages: Vietnamese only, in one table."""

from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, str]] = {
    "desk.name": "Bộ phận Một cửa",
    "desk.skip": "Đến nội dung chính",
    "desk.trial": "Tài khoản thử nghiệm",
    "desk.keys.on": "Phím tắt một chữ: đang bật",
    "desk.keys.off": "Phím tắt một chữ: đang tắt",
    "nav.label": "Các trang",
    "nav.inbox": "Việc cần làm",
    "nav.reception": "Tiếp nhận hồ sơ",
    "nav.search": "Mã hồ sơ, họ tên, số cuối định danh hoặc điện thoại",
    "nav.search.button": "Tìm",
    "role.counter": "Bộ phận Một cửa",
    "role.specialist": "Chuyên viên",
    "role.head": "Lãnh đạo",
    "role.auditor": "Kiểm tra",
    "inbox.title": "Việc cần làm",
    "inbox.empty": "Hiện không có việc nào đến hạn.",
    "sign_in.title": "Đăng nhập",
    "sign_in.button": "Đăng nhập",
    "sign_in.says": "Vui lòng đăng nhập bằng tài khoản công vụ.",
    "sign_in.local": "Đây là bản chạy thử, không có mật khẩu. Vui lòng mở đường dẫn dùng một lần do người vận hành cấp.",
    "sign_in.link": "Đường dẫn này dùng được một lần.",
    "sign_in.link.button": "Vào bằng tài khoản thử nghiệm",
    "sign_in.link.over": "Đường dẫn này đã được dùng hoặc đã hết hạn. Vui lòng xin đường dẫn khác.",
    "sign_in.unknown": "Tài khoản này chưa được đăng ký làm cán bộ của hệ thống. Vui lòng liên hệ người quản trị.",
    "sign_in.refused": "Đăng nhập không thành công. Vui lòng thử lại.",
    "sign_out.button": "Đăng xuất",
    "sign_out.done": "Đã đăng xuất.",
    "over.title": "Phiên làm việc đã hết",
    "over.says": "Phiên làm việc đã hết. Đăng nhập ở thẻ khác rồi gửi lại; nội dung đã nhập vẫn được giữ.",
    "over.sign_in": "Đăng nhập ở thẻ khác",
    "again.button": "Gửi lại",
    "again.typed": "Nội dung đã nhập",
    "stale.title": "Hồ sơ vừa được cập nhật",
    "stale.says": "Hồ sơ vừa được {name} cập nhật lúc {when}. Nội dung đã nhập vẫn được giữ; vui lòng xem thay đổi rồi "
    "gửi lại.",
    "stale.says.nobody": "Hồ sơ vừa được cập nhật. Nội dung đã nhập vẫn được giữ; vui lòng xem thay đổi rồi gửi lại.",
    "stale.look": "Xem hồ sơ",
    "problem.title": "Không thực hiện được",
    "problem.not_found": "Không tìm thấy nội dung",
    "problem.unknown_dossier": "Không tìm thấy hồ sơ trong phạm vi được xem.",
    "problem.unavailable": "Hệ thống tạm thời chưa trả lời được. Nội dung đã nhập vẫn còn ở trang trước; vui lòng thử lại "
    "sau ít phút.",
    "problem.request_id": "Mã yêu cầu để báo người quản trị:",
    "problem.back": "Về Việc cần làm",
}
"""Name → words. Names in braces are filled in by the page."""
