"""Texts of the page about the service itself, and of announced maintenance."""

VI: dict[str, str] = {
    "maintenance.running": "Đang bảo trì",
    "maintenance.more": "Xem tình trạng hệ thống",
    "service.title": "Tình trạng hệ thống",
    "service.description": "Tra cứu, tiếp nhận và cập nhật hồ sơ có đang hoạt động bình thường không; lịch bảo trì.",
    "service.parts": "Từng phần của hệ thống",
    "service.since": "Từ",
    "service.heartbeat": "Dữ liệu được kiểm tra lần gần nhất lúc",
    "service.no_heartbeat": "Chưa kiểm tra được dữ liệu.",
    "service.looked_at": "Xem lúc",
    "service.planned": "Lịch bảo trì",
    "service.planned.none": "Hiện không có lịch bảo trì.",
    "service.planned.unread": "Hiện chưa xem được lịch bảo trì.",
    "service.planned.old": "Lịch bảo trì cập nhật lúc",
    "service.planned.affects": "Ảnh hưởng:",
    "service.back": "Về trang tra cứu",
    "span.of_a_day": "{start} đến {end} ngày {day}",
    "span.of_days": "{start} ngày {day} đến {end} ngày {last_day}",
    "part.lookup.name": "Tra cứu hồ sơ",
    "part.lookup.working": "Tra cứu hoạt động bình thường.",
    "part.lookup.overloaded": "Đang có nhiều lượt tra cứu. Nếu chưa xem được, vui lòng thử lại sau ít phút.",
    "part.lookup.database_away": (
        "Hệ thống đang gặp sự cố. Hồ sơ được tra cứu gần đây có thể vẫn xem được, có ghi rõ thông tin có thể đã cũ; "
        "hồ sơ khác tạm thời chưa xem được."
    ),
    "part.lookup.everything_away": (
        "Hệ thống đang gặp sự cố. Hồ sơ được tra cứu gần đây có thể vẫn xem được, có ghi rõ thông tin có thể đã cũ; "
        "hồ sơ khác tạm thời chưa xem được."
    ),
    "part.intake.name": "Tiếp nhận hồ sơ",
    "part.intake.working": "Các nơi tiếp nhận đang nhận và cập nhật hồ sơ bình thường.",
    "part.intake.silent": "Hiện chưa ghi được hồ sơ mới. Hồ sơ đã có giấy tiếp nhận vẫn được lưu giữ.",
    "part.intake.not_seen": "Hiện chưa xác định được việc tiếp nhận có bình thường hay không.",
    "part.updates.name": "Cập nhật tình trạng",
    "part.updates.working": "Thay đổi của hồ sơ được hiển thị sau vài giây.",
    "part.updates.late": "Thay đổi của hồ sơ được hiển thị chậm hơn bình thường.",
    "part.updates.unconfirmed": (
        "Chưa kiểm tra được thay đổi mới nhất. Thông tin hiển thị có thể đã cũ và được ghi rõ."
    ),
    "part.state.working": "Bình thường",
    "part.state.limited": "Hạn chế",
    "part.state.down": "Gián đoạn",
    "part.state.unknown": "Chưa rõ",
    "part.all.working": "Hệ thống đang hoạt động bình thường.",
    "part.all.limited": "Hệ thống đang hoạt động hạn chế.",
    "part.all.down": "Một phần của hệ thống đang bị gián đoạn.",
    "part.all.unknown": "Chưa rõ tình trạng của một phần hệ thống.",
    "part.all.maintenance": "Hệ thống đang bảo trì: {parts}.",
}

EN: dict[str, str] = {
    "maintenance.running": "Under maintenance",
    "maintenance.more": "See the service status",
    "service.title": "Service status",
    "service.description": "Whether checking, receiving and updating applications work; the maintenance schedule.",
    "service.parts": "Part by part",
    "service.since": "Since",
    "service.heartbeat": "Data last checked at",
    "service.no_heartbeat": "The data could not be checked yet.",
    "service.looked_at": "Viewed at",
    "service.planned": "Maintenance schedule",
    "service.planned.none": "None at present.",
    "service.planned.unread": "Cannot be shown at the moment.",
    "service.planned.old": "Schedule as of",
    "service.planned.affects": "Affects:",
    "service.back": "Back to the form",
    "span.of_a_day": "{start} to {end} on {day}",
    "span.of_days": "{start} on {day} to {end} on {last_day}",
    "part.lookup.name": "Checking status",
    "part.lookup.working": "Status checking is working.",
    "part.lookup.overloaded": "There is a lot of traffic. If it fails, try again in a few minutes.",
    "part.lookup.database_away": (
        "There is a technical fault. Applications checked recently may still be shown, marked as possibly out of date; "
        "others cannot be shown for now."
    ),
    "part.lookup.everything_away": (
        "There is a technical fault. Applications checked recently may still be shown, marked as possibly out of date; "
        "others cannot be shown for now."
    ),
    "part.intake.name": "Receiving applications",
    "part.intake.working": "Offices are receiving and updating applications as usual.",
    "part.intake.silent": "New applications cannot be recorded right now. Those with a receipt are kept.",
    "part.intake.not_seen": "We cannot tell at the moment whether applications are being received.",
    "part.updates.name": "Status updates",
    "part.updates.working": "Changes appear within seconds.",
    "part.updates.late": "Changes appear later than usual.",
    "part.updates.unconfirmed": (
        "The latest changes cannot be checked. What is shown may be out of date, and is marked as such."
    ),
    "part.state.working": "Working",
    "part.state.limited": "Limited",
    "part.state.down": "Disrupted",
    "part.state.unknown": "Not known",
    "part.all.working": "Everything is working.",
    "part.all.limited": "Some parts are not working fully.",
    "part.all.down": "Part of the service is disrupted.",
    "part.all.unknown": "The state of part of the service is not known.",
    "part.all.maintenance": "Under maintenance: {parts}.",
}
