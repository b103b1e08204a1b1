"""Texts of the pages that refuse: a title and advice for every problem."""

VI: dict[str, str] = {
    "problem.back": "Về trang tra cứu",
    "problem.retry": "Thử lại",
    "problem.advice": "Nên làm gì?",
    "problem.request": "Mã lỗi (đọc cho người hỗ trợ):",
    "problem.meant": "Nếu trên giấy là số 0 hoặc số 1, không phải chữ O, I, L: xem hồ sơ",
    "problem.malformed_code.title": "Mã hồ sơ chưa đúng",
    "problem.malformed_code.advice": "Mã hồ sơ in ở đầu giấy tiếp nhận, bên cạnh mã QR.",
    "problem.dossier_not_found.title": "Không tìm thấy hồ sơ",
    "problem.dossier_not_found.sentence": "Hệ thống này chưa có hồ sơ mang mã {code}.",
    "problem.dossier_not_found.advice": (
        "So lại từng chữ, từng số với giấy tiếp nhận.\n"
        "Nếu vừa nộp, vui lòng thử lại sau vài phút.\n"
        "Nếu vẫn không thấy, đề nghị hỏi nơi đã nộp hồ sơ và mang theo giấy tiếp nhận."
    ),
    "problem.dossier_or_key_not_found.title": "Mã hồ sơ và mã tra cứu không khớp",
    "problem.dossier_or_key_not_found.sentence": "Không có hồ sơ nào khớp với cả hai mã này.",
    "problem.dossier_or_key_not_found.advice": "So lại cả hai mã với giấy tiếp nhận mới nhất.",
    "problem.malformed_key.title": "Mã tra cứu chưa đúng",
    "problem.malformed_key.advice": ("Liên kết trong tin nhắn có thể bị cắt: vui lòng nhập mã trên giấy tiếp nhận."),
    "problem.unavailable.title": "Tạm thời chưa tra cứu được",
    "problem.unavailable.sentence": "Hệ thống đang gặp sự cố hoặc quá tải nên chưa xem được hồ sơ này.",
    "problem.unavailable.advice": "Vui lòng thử lại sau {minutes}.\nHồ sơ đã nộp vẫn được lưu giữ.",
    "problem.too_many_requests.title": "Quá nhiều lượt tra cứu",
    "problem.too_many_requests.sentence": (
        "Mạng đang dùng có quá nhiều lượt tra cứu trong thời gian ngắn, có thể vì nhiều người dùng chung."
    ),
    "problem.too_many_requests.advice": (
        "Vui lòng chờ {wait} rồi thử lại.\n"
        "Nếu có giấy tiếp nhận, quét mã QR trên giấy hoặc nhập mã tra cứu để xem ngay: "
        "mã tra cứu đúng không bị giới hạn số lượt."
    ),
    "problem.lookup_key_required.title": "Cần có mã tra cứu",
    "problem.lookup_key_required.advice": "Vui lòng nhập mã tra cứu in trên giấy tiếp nhận, bên cạnh mã QR.",
    "problem.not_found.title": "Không tìm thấy trang",
    "problem.not_found.sentence": "Địa chỉ này không dẫn đến trang nào.",
    "problem.not_found.advice": "Kiểm tra lại địa chỉ, hoặc về trang tra cứu và nhập mã hồ sơ.",
    "problem.address_too_long.title": "Nội dung nhập quá dài",
    "problem.address_too_long.sentence": "Nội dung nhập hoặc địa chỉ vừa mở quá dài.",
    "problem.address_too_long.advice": "Về trang tra cứu và chỉ nhập mã hồ sơ.",
    "problem.head_too_large.title": "Trình duyệt gửi kèm quá nhiều cookie",
    "problem.head_too_large.sentence": "Cookie của các trang khác cùng tên miền vượt quá dung lượng cho phép.",
    "problem.head_too_large.advice": (
        "Vui lòng xóa cookie của trang này trong phần cài đặt của trình duyệt, rồi mở lại trang.\n"
        "Cũng có thể mở trang trong cửa sổ ẩn danh."
    ),
    "problem.internal.title": "Đã có lỗi xảy ra",
    "problem.internal.sentence": "Đây là lỗi của hệ thống, không phải do ông/bà.",
    "problem.internal.advice": ("Vui lòng thử lại sau ít phút.\nNếu vẫn lỗi, đề nghị liên hệ nơi đã nộp hồ sơ."),
    "wait.second": "1 giây",
    "wait.seconds": "{n} giây",
    "wait.minute": "1 phút",
    "wait.minutes": "{n} phút",
}

EN: dict[str, str] = {
    "problem.back": "Back to the form",
    "problem.retry": "Try again",
    "problem.advice": "What to do",
    "problem.request": "Error code, for support:",
    "problem.meant": "If the receipt has the digits 0 or 1, not the letters O, I or L: see application",
    "problem.malformed_code.title": "The code is not right",
    "problem.malformed_code.advice": "The code is at the top of the receipt, beside the QR code.",
    "problem.dossier_not_found.title": "Application not found",
    "problem.dossier_not_found.sentence": "There is no application with the code {code} in this system yet.",
    "problem.dossier_not_found.advice": (
        "Compare every letter and digit with the receipt.\n"
        "If you applied just now, try again in a few minutes.\n"
        "If it is still not found, ask the office where you applied and bring the receipt."
    ),
    "problem.dossier_or_key_not_found.title": "Code and key do not match",
    "problem.dossier_or_key_not_found.sentence": "No application matches both.",
    "problem.dossier_or_key_not_found.advice": "Compare both with the newest receipt.",
    "problem.malformed_key.title": "The access key is not right",
    "problem.malformed_key.advice": ("A link in a message may have been cut off: enter the key from the receipt."),
    "problem.unavailable.title": "The status cannot be checked right now",
    "problem.unavailable.sentence": "There is a technical fault or too much traffic.",
    "problem.unavailable.advice": "Try again in {minutes}.\nThe application itself is kept safe.",
    "problem.too_many_requests.title": "Too many checks",
    "problem.too_many_requests.sentence": (
        "There have been too many checks from this network in a short time; several people may share it."
    ),
    "problem.too_many_requests.advice": (
        "Wait {wait} and try again.\n"
        "If you have the receipt, scan its QR code or enter the access key: that works at once, "
        "because a right key is never limited."
    ),
    "problem.lookup_key_required.title": "An access key is needed",
    "problem.lookup_key_required.advice": "Enter the access key that is on the receipt, beside the QR code.",
    "problem.not_found.title": "Page not found",
    "problem.not_found.sentence": "This address does not lead to a page.",
    "problem.not_found.advice": "Check the address, or go to the form and enter the code.",
    "problem.address_too_long.title": "That is too long",
    "problem.address_too_long.sentence": "What was entered, or the address that was opened, is too long.",
    "problem.address_too_long.advice": "Go to the form and enter the application code only.",
    "problem.head_too_large.title": "Your browser sends too many cookies",
    "problem.head_too_large.sentence": "The cookies of other sites under the same domain exceed the limit.",
    "problem.head_too_large.advice": (
        "Please delete this site’s cookies in the settings of your browser, then open the page again.\n"
        "You can also open the page in a private window."
    ),
    "problem.internal.title": "Something went wrong",
    "problem.internal.sentence": "The fault is ours.",
    "problem.internal.advice": (
        "Try again in a few minutes.\nIf it happens again, contact the office where you applied."
    ),
    "wait.second": "1 second",
    "wait.seconds": "{n} seconds",
    "wait.minute": "1 minute",
    "wait.minutes": "{n} minutes",
}
