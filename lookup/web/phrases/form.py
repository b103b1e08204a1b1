"""Texts of the lookup form, of the field for the access key, and of what is told above them."""

VI: dict[str, str] = {
    "form.title": "Tra cứu tình trạng hồ sơ",
    "form.title.word": "hồ sơ",
    "form.lead": "Xem hồ sơ đang ở bước nào và cần làm gì tiếp theo.",
    "form.code": "Mã hồ sơ",
    "form.code.word": "mã hồ sơ",
    "form.examples": "Ví dụ:",
    "form.example_or": "hoặc",
    "form.spelling": "Chữ hoa hay chữ thường, có hay không có dấu cách đều được.",
    "form.submit": "Tra cứu",
    "form.error_prefix": "Lỗi:",
    "form.where.title": "Mã hồ sơ ở đâu?",
    "form.where.text": (
        "Mã in ở đầu Giấy tiếp nhận hồ sơ và hẹn trả kết quả. "
        "Nếu nộp trực tuyến, xem trong tin nhắn hoặc thư điện tử thông báo."
    ),
    "form.where.qr": "Giấy có mã QR? Mở camera điện thoại hoặc Zalo, quét mã QR, không cần gõ.",
    "form.where.picture": "Hình minh họa: mã hồ sơ ở đầu giấy tiếp nhận, bên cạnh mã QR.",
    "form.maintenance.running": "Đang bảo trì: {parts}.",
    "form.maintenance.ends": "Dự kiến xong lúc {when}.",
    "form.maintenance.coming": "Sắp bảo trì: {parts}, {when}.",
    "form.maintenance.lookup_works": "Việc tra cứu vẫn bình thường.",
    "form.maintenance.others_work": "Các phần khác vẫn hoạt động bình thường.",
    "errors.title": "Vui lòng kiểm tra lại",
    "key.title": "Xem thông tin chi tiết",
    "key.lead": (
        "Nhập mã tra cứu in trên giấy tiếp nhận để xem ngày hẹn trả kết quả, thủ tục, nơi đang giải quyết, "
        "các bước đã qua và nội dung cần bổ sung (nếu có)."
    ),
    "key.label": "Mã tra cứu",
    "key.label.word": "mã tra cứu",
    "key.hint": (
        "Gồm 15 chữ và số, chia ba nhóm, ví dụ 2KQ0F-9D3XZ-7MHWA. "
        "Nếu quét mã QR trên giấy tiếp nhận thì không cần nhập."
    ),
    "key.submit": "Xem chi tiết",
    "key.none": "Chưa có mã tra cứu? Đề nghị hỏi nơi đã nộp hồ sơ và mang theo giấy tờ tùy thân.",
    "key.of_another": (
        "Mã tra cứu này không khớp với hồ sơ {code}. "
        "Nếu giấy tiếp nhận đã được cấp lại, vui lòng dùng mã trên bản mới nhất."
    ),
    "key.below": "Tình trạng chung của hồ sơ vẫn xem được ở dưới.",
    "key.general": "Xem tình trạng chung của hồ sơ {code}",
    "hide.submit": "Ẩn thông tin chi tiết",
    "told.hidden": ("Đã ẩn thông tin chi tiết trên thiết bị này. Nếu dùng máy chung, vui lòng đóng trình duyệt."),
    "told.shown": (
        "Chưa hiển thị được thông tin chi tiết: trình duyệt không lưu cookie của trang này, hoặc đã quá 1 giờ sau khi "
        "nhập mã tra cứu. Vui lòng cho phép cookie, rồi nhập lại mã tra cứu ở dưới."
    ),
}

EN: dict[str, str] = {
    "form.title": "Check the status of an application",
    "form.title.word": "hồ sơ",
    "form.lead": "See which step it has reached and what to do next.",
    "form.code": "Application code",
    "form.code.word": "mã hồ sơ",
    "form.examples": "For example:",
    "form.example_or": "or",
    "form.spelling": "Capitals and spaces do not matter.",
    "form.submit": "Check status",
    "form.error_prefix": "Error:",
    "form.where.title": "Where is the code?",
    "form.where.text": (
        "At the top of the receipt (Giấy tiếp nhận hồ sơ và hẹn trả kết quả). "
        "If you applied online: in the text message or e-mail you were sent."
    ),
    "form.where.qr": "Is there a QR code on it? Scan it with the phone’s camera; no typing.",
    "form.where.picture": "Illustration: the code is at the top of the receipt, beside the QR code.",
    "form.maintenance.running": "Under maintenance: {parts}.",
    "form.maintenance.ends": "Expected to end at {when}.",
    "form.maintenance.coming": "Planned maintenance: {parts}, {when}.",
    "form.maintenance.lookup_works": "Checking a status works as usual.",
    "form.maintenance.others_work": "The other parts work as usual.",
    "errors.title": "There is a problem",
    "key.title": "See the details",
    "key.lead": (
        "Enter the access key printed on the receipt to see the due date, the service, who is dealing with it, "
        "the steps so far and anything still needed."
    ),
    "key.label": "Access key",
    "key.label.word": "mã tra cứu",
    "key.hint": (
        "15 letters and digits in three groups, for example 2KQ0F-9D3XZ-7MHWA. "
        "If you scan the QR code on the receipt, you need not type it."
    ),
    "key.submit": "Show details",
    "key.none": "No access key? Ask the office where you applied, and bring an identity document.",
    "key.of_another": (
        "This access key does not match application {code}. If the receipt was issued again, use the newest one."
    ),
    "key.below": "The general status is shown below.",
    "key.general": "See the general status of {code}",
    "hide.submit": "Hide details",
    "told.hidden": "The details are hidden on this device. On a shared computer, close the browser as well.",
    "told.shown": (
        "The details cannot be shown: the browser keeps no cookies of this site, or more than one hour has passed "
        "since the access key was entered. Allow cookies, then enter the access key again below."
    ),
}
