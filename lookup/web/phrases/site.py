"""Texts around every page: name, skip link, footer."""

VI: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Đến nội dung chính",
    "site.other_language": "English",
    "site.promise": "Tra cứu 24 giờ mỗi ngày, kể cả ngày nghỉ. Không cần tài khoản.",
    "site.run_by": "Hồ sơ 24 – trang tra cứu của",
    "site.services": "Danh mục thủ tục hành chính",
    "site.service_status": "Tình trạng hệ thống",
    "site.about": "Liên hệ, về trang này",
    "site.privacy": "Quyền riêng tư",
    "site.accessibility": "Hỗ trợ tiếp cận",
    "site.safety": "Trang này không thu tiền và không hỏi mật khẩu, mã OTP hay số tài khoản ngân hàng.",
}

EN: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Skip to main content",
    "site.other_language": "Tiếng Việt",
    "site.promise": "Open 24 hours a day, every day of the year. No account needed.",
    "site.run_by": "Run by",
    "site.services": "Services",
    "site.service_status": "Service status",
    "site.about": "Contact, about this site",
    "site.privacy": "Privacy",
    "site.accessibility": "Accessibility",
    "site.safety": "This site takes no payments and never asks for passwords, OTP codes or bank accounts.",
}
