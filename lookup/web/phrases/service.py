"""Texts of the page about the service itself, and of announced maintenance."""

VI: dict[str, str] = {
    "maintenance.running": "Đang bảo trì",
    "maintenance.more": "Xem tình trạng hệ thống",
    "service.title": "Tình trạng hệ thống",
    "service.description": "Tra cứu, tiếp nhận và cập nhật hồ sơ có đang hoạt động bình thường không; lịch bảo trì.",
    "service.parts": "Từng phần của hệ thống",
    "service.since": "Từ",
    "service.heartbeat": "Tình trạng hồ sơ được đối chiếu lần cuối lúc",
    "service.no_heartbeat": "Máy chủ này chưa đối chiếu được tình trạng hồ sơ lần nào kể từ khi khởi động.",
    "service.looked_at": "Kiểm tra lúc",
    "service.planned": "Bảo trì đã thông báo",
    "service.planned.none": "Hiện không có đợt bảo trì nào được thông báo.",
    "service.planned.unread": "Hiện chưa đọc được thông báo bảo trì.",
    "service.planned.old": "Thông báo bảo trì được đọc lần cuối lúc",
    "service.planned.affects": "Phần bị ảnh hưởng:",
    "service.back": "Về trang tra cứu",
    "span.of_a_day": "{start}–{end} ngày {day}",
    "span.of_days": "{start} ngày {day} – {end} ngày {last_day}",
    "part.lookup.name": "Tra cứu hồ sơ",
    "part.lookup.working": "Tra cứu được mọi hồ sơ.",
    "part.lookup.overloaded": "Đang có quá nhiều lượt tra cứu. Nếu chưa xem được, xin thử lại sau ít phút.",
    "part.lookup.database_away": (
        "Chưa kết nối được cơ sở dữ liệu. Hồ sơ mới tra cứu gần đây vẫn xem được và có ghi rõ thông tin có thể đã cũ; "
        "hồ sơ khác tạm thời chưa xem được."
    ),
    "part.lookup.everything_away": (
        "Chưa kết nối được cơ sở dữ liệu và bộ nhớ đệm. Chỉ một số hồ sơ vừa tra cứu còn xem được và có ghi rõ "
        "thông tin có thể đã cũ; hồ sơ khác tạm thời chưa xem được."
    ),
    "part.intake.name": "Tiếp nhận hồ sơ",
    "part.intake.working": "Nơi tiếp nhận nhận được hồ sơ mới và cập nhật được hồ sơ đã nộp.",
    "part.intake.silent": (
        "Hiện chưa ghi được hồ sơ mới vào hệ thống. Hồ sơ đã có giấy tiếp nhận vẫn được lưu giữ đầy đủ."
    ),
    "part.intake.not_seen": "Từ đây hiện chưa biết được việc tiếp nhận có hoạt động hay không.",
    "part.updates.name": "Cập nhật tình trạng",
    "part.updates.working": "Thay đổi của hồ sơ hiện ra sau vài giây.",
    "part.updates.late": "Thay đổi của hồ sơ hiện ra chậm hơn bình thường, có thể sau khoảng một phút.",
    "part.updates.unconfirmed": (
        "Chưa kiểm tra được thay đổi mới nhất. Thông tin hiện ra có thể đã cũ và được ghi rõ như vậy."
    ),
    "part.state.working": "Bình thường",
    "part.state.limited": "Hạn chế",
    "part.state.down": "Gián đoạn",
    "part.state.unknown": "Chưa rõ",
    "part.all.working": "Mọi phần của hệ thống đang hoạt động bình thường.",
    "part.all.limited": "Hệ thống đang hoạt động hạn chế.",
    "part.all.down": "Một phần của hệ thống đang bị gián đoạn.",
    "part.all.unknown": "Có phần của hệ thống hiện chưa rõ tình trạng.",
}

EN: dict[str, str] = {
    "maintenance.running": "Maintenance under way",
    "maintenance.more": "See the service status",
    "service.title": "Service status",
    "service.description": "Whether checking, receiving and updating applications work; the maintenance schedule.",
    "service.parts": "Part by part",
    "service.since": "Since",
    "service.heartbeat": "Statuses were last confirmed at",
    "service.no_heartbeat": "This server has not been able to confirm any status since it started.",
    "service.looked_at": "Checked at",
    "service.planned": "Announced maintenance",
    "service.planned.none": "No maintenance is announced at present.",
    "service.planned.unread": "Announcements of maintenance cannot be read at the moment.",
    "service.planned.old": "Announcements of maintenance were last read at",
    "service.planned.affects": "Affected:",
    "service.back": "Back to the lookup form",
    "span.of_a_day": "{start}–{end} on {day}",
    "span.of_days": "{start} on {day} – {end} on {last_day}",
    "part.lookup.name": "Looking up dossiers",
    "part.lookup.working": "Every dossier can be looked up.",
    "part.lookup.overloaded": "There are too many lookups at the moment. If yours fails, try again in a few minutes.",
    "part.lookup.database_away": (
        "The database cannot be reached. Dossiers looked up lately are still shown, marked as perhaps out of date; "
        "others cannot be shown for now."
    ),
    "part.lookup.everything_away": (
        "Neither the database nor the cache can be reached. Only some dossiers looked up just before are still shown, "
        "marked as perhaps out of date; others cannot be shown for now."
    ),
    "part.intake.name": "Taking in dossiers",
    "part.intake.working": "Offices can take in new dossiers and update those already submitted.",
    "part.intake.silent": "New dossiers cannot be recorded right now. Those with a receipt are safely kept.",
    "part.intake.not_seen": "It cannot be told from here whether dossiers are being taken in.",
    "part.updates.name": "Updating statuses",
    "part.updates.working": "Changes to a dossier show within seconds.",
    "part.updates.late": "Changes to a dossier show later than usual, perhaps after a minute.",
    "part.updates.unconfirmed": (
        "The latest changes cannot be checked. What is shown may be out of date, and is marked as such."
    ),
    "part.state.working": "Working",
    "part.state.limited": "Limited",
    "part.state.down": "Disrupted",
    "part.state.unknown": "Not known",
    "part.all.working": "Everything is working.",
    "part.all.limited": "The service is working with limits.",
    "part.all.down": "Part of the service is disrupted.",
    "part.all.unknown": "The state of part of the service is not known.",
}
