"""Texts of the lookup form and of the field for the lookup key."""

VI: dict[str, str] = {
    "form.title": "Tra cứu tình trạng hồ sơ",
    "form.lead": "Xem hồ sơ đang ở bước nào và việc tiếp theo là gì.",
    "form.code": "Mã hồ sơ",
    "form.examples": "Ví dụ:",
    "form.example_or": "hoặc",
    "form.spelling": "Gõ chữ hoa hay chữ thường, có hay không có dấu cách đều được.",
    "form.submit": "Tra cứu",
    "form.error_prefix": "Lỗi:",
    "form.where.title": "Mã hồ sơ ở đâu?",
    "form.where.text": (
        "Mã in trên Giấy tiếp nhận hồ sơ và hẹn trả kết quả, được cấp khi nộp hồ sơ. "
        "Nộp trực tuyến thì mã có trong thông báo đã gửi cho người nộp."
    ),
    "form.where.qr": "Giấy có mã QR? Chỉ cần quét bằng máy ảnh của điện thoại, không phải gõ.",
    "form.where.picture": "Hình minh họa: mã hồ sơ nằm ở phần đầu giấy tiếp nhận, bên cạnh mã QR.",
    "key.title": "Xem thông tin chi tiết",
    "key.lead": (
        "Nhập mã tra cứu in trên giấy tiếp nhận để xem ngày hẹn trả kết quả, thủ tục, nơi đang giữ hồ sơ, "
        "các bước đã qua và giấy tờ cần bổ sung (nếu có)."
    ),
    "key.label": "Mã tra cứu",
    "key.hint": "Gồm 15 chữ và số, chia thành ba nhóm. Quét mã QR trên giấy tiếp nhận thì không phải nhập.",
    "key.submit": "Xem chi tiết",
}

EN: dict[str, str] = {
    "form.title": "Check the status of a dossier",
    "form.lead": "See which step it has reached and what happens next.",
    "form.code": "Dossier code",
    "form.examples": "For example:",
    "form.example_or": "or",
    "form.spelling": "Capital or small letters, with or without spaces: any spelling will do.",
    "form.submit": "Check status",
    "form.error_prefix": "Error:",
    "form.where.title": "Where is the code?",
    "form.where.text": (
        "It is printed on the receipt given when the dossier was submitted "
        "(Giấy tiếp nhận hồ sơ và hẹn trả kết quả). "
        "For a dossier submitted online, it is in the message sent to the applicant."
    ),
    "form.where.qr": "Is there a QR code on the receipt? Scan it with the phone’s camera: no typing.",
    "form.where.picture": "Illustration: the dossier code is at the top of the receipt, beside the QR code.",
    "key.title": "See the details",
    "key.lead": (
        "Enter the lookup key printed on the receipt to see the due date, the service, who holds the dossier, "
        "the steps so far and any documents still needed."
    ),
    "key.label": "Lookup key",
    "key.hint": "15 letters and digits in three groups. Scanning the receipt’s QR code enters it for you.",
    "key.submit": "Show details",
}
