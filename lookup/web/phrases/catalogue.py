"""Texts of the list of services and of a service's page, and how a time limit and a day are said."""

from datetime import date

VI: dict[str, str] = {
    "services.title": "Danh mục thủ tục hành chính",
    "services.lead": "Thời hạn giải quyết, giấy tờ cần nộp và nơi nộp của từng thủ tục.",
    "services.find": "Để tìm trên trang này: dùng chức năng tìm trong trang của trình duyệt (Ctrl+F trên máy tính).",
    "services.none": "Danh mục hiện chưa có thủ tục nào.",
    "services.sample": "Danh mục mẫu, chỉ để thử nghiệm.",
    "services.count": "{n} thủ tục",
    "services.back": "Xem danh mục thủ tục",
    "services.from": "áp dụng từ {date}",
    "service_page.lead": "{name}: thời hạn giải quyết, giấy tờ cần nộp, cách nộp.",
    "service_page.other_name": "Tên tiếng Anh",
    "service_page.facts": "Thông tin chung",
    "service_page.code": "Mã thủ tục",
    "service_page.field": "Lĩnh vực",
    "service_page.agency": "Cơ quan thực hiện",
    "service_page.agency_of_receipt": "Cơ quan nơi nộp hồ sơ",
    "service_page.channels": "Cách thức thực hiện",
    "service_page.online": "Dịch vụ công trực tuyến",
    "service_page.fee": "Phí, lệ phí",
    "service_page.result": "Kết quả thực hiện",
    "service_page.validity": "Hiệu lực",
    "service_page.in_force": "Áp dụng từ {date}",
    "service_page.in_force_until": "Áp dụng từ {date}, hết hiệu lực từ {end}",
    "service_page.times": "Thời hạn giải quyết",
    "service_page.times.none": "Danh mục chưa nêu thời hạn. Đề nghị hỏi nơi nộp hồ sơ.",
    "service_page.papers": "Thành phần hồ sơ",
    "service_page.papers.sets": "Số lượng: {n} bộ",
    "service_page.papers.none": "Danh mục chưa nêu thành phần hồ sơ. Đề nghị hỏi nơi nộp hồ sơ.",
    "service_page.legal_basis": "Căn cứ pháp lý",
    "service_page.interlinked": "Thủ tục hành chính liên thông",
    "service_page.interlinked.lead": "Các cơ quan giải quyết lần lượt:",
    "service_page.apply": "Nơi nộp hồ sơ",
    "service_page.apply.online": "Nộp hồ sơ trực tuyến",
    "service_page.apply.site": "Liên kết này mở trang của cơ quan.",
    "service_page.apply.desk": "Nộp trực tiếp hoặc qua bưu chính: bộ phận tiếp nhận và trả kết quả của cơ quan.",
    "service_page.apply.not_here": "Trang này không nhận hồ sơ.",
    "service_page.ended": "Thủ tục này đã hết hiệu lực từ {date}.",
    "service_page.ended.text": "Hồ sơ đã nộp trước ngày đó vẫn tra cứu được.",
    "service_page.from_receipt": "Tính từ khi cơ quan nhận đủ hồ sơ.",
    "service_page.source": "căn cứ",
    "limit.at_once": "trả kết quả ngay",
    "limit.working_day": "1 ngày làm việc",
    "limit.working_days": "{n} ngày làm việc",
    "limit.working_hour": "1 giờ làm việc",
    "limit.working_hours": "{n} giờ làm việc",
    "limit.day": "1 ngày",
    "limit.days": "{n} ngày",
    "limit.from": "từ {date}",
    "limit.until": "đến trước {date}",
    "service_case.default": "Thông thường",
    "service_case.verification": "Trường hợp phải thẩm tra, xác minh",
    "service_case.card": "Trường hợp chỉ cấp thẻ",
    "service_case.proxy": "Trường hợp ủy quyền cho người khác",
    "channel.any": "mọi hình thức nộp",
    "channel.others": "hình thức nộp khác",
    "channel.direct": "trực tiếp",
    "channel.online": "trực tuyến",
    "channel.postal": "qua dịch vụ bưu chính công ích",
    "online.full": "toàn trình",
    "online.partial": "một phần",
    "field.BHXH-Thu": "Thu bảo hiểm xã hội, bảo hiểm y tế, bảo hiểm thất nghiệp",
    "field.BHXH-CSBH": "Thực hiện chính sách bảo hiểm xã hội, bảo hiểm y tế",
    "field.BHXH-THCS": "Chi trả các chế độ bảo hiểm",
    "problem.service_not_found.title": "Không tìm thấy thủ tục",
    "problem.service_not_found.advice": "Kiểm tra lại mã thủ tục, hoặc xem danh mục thủ tục (liên kết ở cuối trang).",
    "problem.catalogue_unavailable.title": "Tạm thời chưa xem được danh mục",
    "problem.catalogue_unavailable.advice": "Vui lòng thử lại sau ít phút.",
}

EN: dict[str, str] = {
    "services.title": "Services",
    "services.lead": "Time limit, documents needed and where to apply, for each service.",
    "services.find": "To search this page, use the browser’s own search (Ctrl+F on a computer).",
    "services.none": "There are no services in the catalogue at present.",
    "services.sample": "Sample catalogue, for trial only.",
    "services.count": "{n} services",
    "services.back": "See all services",
    "services.from": "in force from {date}",
    "service_page.lead": "{name}: time limit, documents needed, how to apply.",
    "service_page.other_name": "Name in Vietnamese",
    "service_page.facts": "About this service",
    "service_page.code": "Code",
    "service_page.field": "Field",
    "service_page.agency": "Agency",
    "service_page.agency_of_receipt": "The agency where you apply",
    "service_page.channels": "How to apply",
    "service_page.online": "Online service",
    "service_page.fee": "Fees",
    "service_page.result": "Result",
    "service_page.validity": "Validity",
    "service_page.in_force": "In force from {date}",
    "service_page.in_force_until": "In force from {date}, ends on {end}",
    "service_page.times": "Time limit",
    "service_page.times.none": "The catalogue does not state it. Ask the office where you apply.",
    "service_page.papers": "Documents needed",
    "service_page.papers.sets": "Number of sets: {n}",
    "service_page.papers.none": "The catalogue does not state them. Ask the office where you apply.",
    "service_page.legal_basis": "Legal basis",
    "service_page.interlinked": "Service of several agencies",
    "service_page.interlinked.lead": "They work on it one after another:",
    "service_page.apply": "Where to apply",
    "service_page.apply.online": "Apply online",
    "service_page.apply.site": "This link opens the agency’s site.",
    "service_page.apply.desk": "In person or by post: the agency’s reception desk.",
    "service_page.apply.not_here": "This site takes no applications.",
    "service_page.ended": "This service ended on {date}.",
    "service_page.ended.text": "The status of applications made before that day can still be checked.",
    "service_page.from_receipt": "Counted from when the agency has the complete application.",
    "service_page.source": "source",
    "limit.at_once": "at once",
    "limit.working_day": "1 working day",
    "limit.working_days": "{n} working days",
    "limit.working_hour": "1 working hour",
    "limit.working_hours": "{n} working hours",
    "limit.day": "1 day",
    "limit.days": "{n} days",
    "limit.from": "from {date}",
    "limit.until": "until the day before {date}",
    "service_case.default": "Usually",
    "service_case.verification": "Where verification is required",
    "service_case.card": "For the card only",
    "service_case.proxy": "Where another person is authorised",
    "channel.any": "however you apply",
    "channel.others": "any other way",
    "channel.direct": "in person",
    "channel.online": "online",
    "channel.postal": "by post",
    "online.full": "fully online",
    "online.partial": "partly online",
    "field.BHXH-Thu": "Collection of social, health and unemployment insurance",
    "field.BHXH-CSBH": "Social and health insurance benefits",
    "field.BHXH-THCS": "Payment of benefits",
    "problem.service_not_found.title": "Service not found",
    "problem.service_not_found.advice": "Check the code, or see the list of services (linked below).",
    "problem.catalogue_unavailable.title": "The list cannot be shown right now",
    "problem.catalogue_unavailable.advice": "Try again in a few minutes.",
}

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
HOURS_A_DAY = 8
"""Working hours of a working day, as time limits are counted."""


def day_phrase(day: date, lang: str) -> str:
    """The day as it is written: 09/12/2026, 9 December 2026."""
    return f"{day:%d/%m/%Y}" if lang == "vi" else f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def limit_phrase(hours: int | None, calendar_days: int | None, lang: str) -> str:
    """A time limit: in calendar days, in working days, in working hours where they make no whole day, else at once."""
    words = VI if lang == "vi" else EN
    if calendar_days is not None:
        unit, n = "day", calendar_days
    elif hours is None:
        return words["limit.at_once"]
    elif hours % HOURS_A_DAY == 0:
        unit, n = "working_day", hours // HOURS_A_DAY
    else:
        unit, n = "working_hour", hours
    return words[f"limit.{unit}" if n == 1 else f"limit.{unit}s"].format(n=n)
