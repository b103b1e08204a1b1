"""Texts of the page that verifies the stamp on a paper."""

VI: dict[str, str] = {
    "verify.title": "Xác thực giấy của hồ sơ",
    "verify.lead": "Kiểm tra giấy tiếp nhận, phiếu hoặc thông báo có đúng do cơ quan cấp hay không. Quét mã xác thực "
    "ở cuối giấy, hoặc dán nội dung của mã vào đây.",
    "verify.paste": "Dán mã xác thực",
    "verify.another": "Xác thực giấy khác",
    "verify.label": "Mã xác thực giấy",
    "verify.hint": "Nội dung hoặc liên kết của mã có dòng chữ “Mã xác thực giấy này”.",
    "verify.submit": "Xác thực",
    "verify.compare": "Vui lòng so loại giấy, mã hồ sơ, ngày nhận và ngày hẹn dưới đây với tờ giấy; nếu khác, tờ giấy "
    "đã bị sửa.",
    "verify.ok": "Mã xác thực này do hệ thống cấp cho:",
    "verify.bad": "Không xác thực được: mã không đúng hoặc không do hệ thống này cấp.",
    "verify.code": "Mã hồ sơ",
    "verify.received": "Thời gian nhận hồ sơ",
    "verify.due": "Thời gian hẹn trả kết quả",
    "verify.form.receipt": "Giấy tiếp nhận hồ sơ và hẹn trả kết quả",
    "verify.form.supplement": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
    "verify.form.refusal": "Phiếu từ chối tiếp nhận giải quyết hồ sơ",
    "verify.form.apology": "Văn bản xin lỗi và đề nghị gia hạn thời gian giải quyết",
    "verify.form.stop": "Thông báo dừng giải quyết hồ sơ",
    "verify.form.control": "Phiếu kiểm soát quá trình giải quyết hồ sơ",
}

EN: dict[str, str] = {
    "verify.title": "Verify a paper",
    "verify.lead": "Check whether a receipt, request or notice was issued by the agency. Scan the code at the foot of "
    "the paper, or paste what it contains here.",
    "verify.paste": "Paste the code",
    "verify.another": "Verify another paper",
    "verify.label": "Code to verify the paper",
    "verify.hint": "The text or link of the code at the foot of the paper, beside the signatures.",
    "verify.submit": "Verify",
    "verify.compare": "Compare the kind of paper, the application code and the dates below with the paper; if they "
    "differ, it has been altered.",
    "verify.ok": "This code was issued for:",
    "verify.bad": "Cannot be verified: the code is wrong or was not issued by this system.",
    "verify.code": "Application code",
    "verify.received": "Received",
    "verify.due": "Due date",
    "verify.form.receipt": "Receipt with the due date",
    "verify.form.supplement": "Request for supplementary documents",
    "verify.form.refusal": "Notice that the application is not accepted",
    "verify.form.apology": "Apology for a delay",
    "verify.form.stop": "Notice that processing has stopped",
    "verify.form.control": "Control slip",
}
