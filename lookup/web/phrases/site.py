"""Texts around every page: name, skip link, footer."""

VI: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Đến nội dung chính",
    "site.other_language": "English",
    "site.promise": "Tra cứu 24/7, kể cả ngày nghỉ, ngày lễ. Không cần tài khoản.",
    "site.run_by": "trang tra cứu của",
    "site.services": "Danh mục thủ tục hành chính",
    "site.service_status": "Tình trạng hệ thống",
    "site.statistics": "Số liệu giải quyết hồ sơ",
    "site.about": "Liên hệ, về trang này",
    "site.privacy": "Quyền riêng tư",
    "site.accessibility": "Hỗ trợ tiếp cận",
    "site.safety": "Trang này không thu tiền, không hỏi mật khẩu, mã OTP hay số tài khoản ngân hàng.",
}

EN: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Skip to main content",
    "site.other_language": "Tiếng Việt",
    "site.promise": "Open day and night, every day. No account needed.",
    "site.run_by": "run by",
    "site.services": "Services",
    "site.service_status": "Service status",
    "site.statistics": "Statistics",
    "site.about": "Contact, about this site",
    "site.privacy": "Privacy",
    "site.accessibility": "Accessibility",
    "site.safety": "This site takes no payments and never asks for passwords, OTP codes or bank account numbers.",
}
