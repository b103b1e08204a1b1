"""Texts of the pages that refuse: a title and advice for every problem."""

VI: dict[str, str] = {
    "problem.back": "Về trang tra cứu",
    "problem.retry": "Thử lại",
    "problem.advice": "Nên làm gì?",
    "problem.request": "Khi cần hỗ trợ, xin cung cấp mã yêu cầu:",
    "problem.empty_code.title": "Chưa có mã hồ sơ",
    "problem.empty_code.sentence": "Xin nhập mã hồ sơ.",
    "problem.empty_code.advice": "Mã in ở phần đầu giấy tiếp nhận, bên cạnh mã QR.",
    "problem.malformed_code.title": "Mã hồ sơ chưa đúng",
    "problem.malformed_code.advice": (
        "Nhập đủ mã hồ sơ, cả phần đầu và phần cuối.\n"
        "Mã hồ sơ khác với mã tra cứu: mã tra cứu chỉ dùng để xem thông tin chi tiết."
    ),
    "problem.dossier_not_found.title": "Không tìm thấy hồ sơ",
    "problem.dossier_not_found.advice": (
        "Nếu vừa nộp hồ sơ, xin đợi vài phút rồi tra cứu lại.\n"
        "So từng chữ, từng số với giấy tiếp nhận; số 0 và chữ O, số 1 và chữ I rất dễ nhầm.\n"
        "Nếu vẫn không thấy, xin hỏi nơi đã nộp và mang theo giấy tiếp nhận."
    ),
    "problem.dossier_or_key_not_found.title": "Mã hồ sơ hoặc mã tra cứu không đúng",
    "problem.dossier_or_key_not_found.advice": (
        "So lại cả hai mã với giấy tiếp nhận.\n"
        "Nếu giấy tiếp nhận đã được cấp lại, xin dùng mã tra cứu trên bản mới nhất.\n"
        "Không có mã tra cứu thì vẫn xem được tình trạng chung bằng mã hồ sơ."
    ),
    "problem.malformed_key.title": "Mã tra cứu chưa đúng",
    "problem.malformed_key.advice": "Mã tra cứu gồm 15 chữ và số, chia thành ba nhóm.",
    "problem.unavailable.title": "Tạm thời chưa tra cứu được",
    "problem.unavailable.advice": (
        "Xin thử lại sau ít phút.\nHồ sơ đã nộp vẫn được lưu giữ; sự cố chỉ ảnh hưởng đến việc tra cứu."
    ),
    "problem.too_many_requests.title": "Quá nhiều lượt tra cứu",
    "problem.too_many_requests.advice": (
        "Nhập mã tra cứu in trên giấy tiếp nhận để xem hồ sơ ngay.\n"
        "Nếu chưa có mã tra cứu, vui lòng dùng kết nối mạng khác (ví dụ mạng di động) hoặc quay lại sau ít phút."
    ),
    "problem.lookup_key_required.title": "Cần có mã tra cứu",
    "problem.lookup_key_required.advice": "Vui lòng nhập mã tra cứu in trên giấy tiếp nhận, bên cạnh mã QR.",
    "problem.not_found.title": "Không có trang này",
    "problem.not_found.sentence": "Địa chỉ vừa mở không dẫn đến trang nào.",
    "problem.not_found.advice": (
        "Nếu gõ địa chỉ bằng tay, xin kiểm tra lại.\nĐể xem tình trạng hồ sơ, xin về trang tra cứu và nhập mã."
    ),
    "problem.head_too_large.title": "Trình duyệt gửi kèm quá nhiều cookie",
    "problem.head_too_large.sentence": "Cookie của các trang khác cùng tên miền vượt quá dung lượng cho phép.",
    "problem.head_too_large.advice": (
        "Vui lòng xóa cookie của trang này trong phần cài đặt của trình duyệt, rồi mở lại trang.\n"
        "Cũng có thể mở trang trong cửa sổ ẩn danh."
    ),
    "problem.internal.title": "Đã có lỗi xảy ra",
    "problem.internal.sentence": "Lỗi thuộc về hệ thống, không phải do ông/bà thao tác sai.",
    "problem.internal.advice": "Xin thử lại sau ít phút.\nNếu vẫn lỗi, xin liên hệ nơi đã nộp hồ sơ.",
}

EN: dict[str, str] = {
    "problem.back": "Back to the lookup form",
    "problem.retry": "Try again",
    "problem.advice": "What to do",
    "problem.request": "When asking for help, give this request code:",
    "problem.empty_code.title": "No dossier code",
    "problem.empty_code.sentence": "Enter a dossier code.",
    "problem.empty_code.advice": "The code is at the top of the receipt, beside the QR code.",
    "problem.malformed_code.title": "This is not a dossier code",
    "problem.malformed_code.advice": (
        "Enter the whole code, from its first part to its last.\n"
        "The dossier code is not the lookup key: the key only opens the details."
    ),
    "problem.dossier_not_found.title": "Dossier not found",
    "problem.dossier_not_found.advice": (
        "If it was submitted just now, wait a few minutes and check again.\n"
        "Compare every letter and digit with the receipt; 0 and O, 1 and I are easily confused.\n"
        "If it still cannot be found, ask the office where it was submitted and bring the receipt."
    ),
    "problem.dossier_or_key_not_found.title": "The dossier code or the lookup key is wrong",
    "problem.dossier_or_key_not_found.advice": (
        "Compare both with the receipt.\n"
        "If the receipt was issued again, use the lookup key on the newest one.\n"
        "Without a lookup key, the dossier code alone still shows the general status."
    ),
    "problem.malformed_key.title": "This is not a lookup key",
    "problem.malformed_key.advice": "A lookup key has 15 letters and digits in three groups.",
    "problem.unavailable.title": "The status cannot be checked right now",
    "problem.unavailable.advice": (
        "Please try again in a few minutes.\nThe dossier itself is safe; only looking it up is affected."
    ),
    "problem.too_many_requests.title": "Too many lookups",
    "problem.too_many_requests.advice": (
        "Enter the lookup key on the receipt to see the dossier at once.\n"
        "Without a key, use another network connection (such as mobile data), or come back in some minutes."
    ),
    "problem.lookup_key_required.title": "A lookup key is needed",
    "problem.lookup_key_required.advice": "Enter the lookup key that is on the receipt, beside the QR code.",
    "problem.not_found.title": "Page not found",
    "problem.not_found.sentence": "This address does not lead to a page.",
    "problem.not_found.advice": (
        "If you typed the address, check the spelling.\n"
        "To see the status of a dossier, go to the lookup form and enter its code."
    ),
    "problem.head_too_large.title": "Your browser sends too many cookies",
    "problem.head_too_large.sentence": "The cookies of other sites under the same domain exceed the limit.",
    "problem.head_too_large.advice": (
        "Please delete this site's cookies in the settings of your browser, then open the page again.\n"
        "You can also open the page in a private window."
    ),
    "problem.internal.title": "Something went wrong",
    "problem.internal.sentence": "The fault is ours; you did nothing wrong.",
    "problem.internal.advice": (
        "Please try again in a few minutes.\nIf it keeps happening, contact the office where the dossier was submitted."
    ),
}
