"""All texts of the citizen's pages, in Vietnamese and in English, as data.

Keys read `page.part`; `status.<slug>.name`, `.explained` and `.next` exist for every status,
`problem.<code>.title` and `.advice` for every problem (each line of an advice is one item), and `part.<part>.name`,
`.working` and one sentence for each reason for every part of the service. A problem's sentence is the refusal's own
title; `problem.<code>.sentence` exists only where there is no refusal (empty_code) or its title is for programs.
The Vietnamese text is the original and the names of statuses in it are official; the English one follows. What each
page says stands once more, by hand, in tests/pages/situations.toml; `python -m tests.pages` shows where they differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ops.errors import Refusal

_VI: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Đến nội dung chính",
    "site.other_language": "English",
    "site.promise": "Tra cứu 24 giờ mỗi ngày, kể cả ngày nghỉ. Không cần tài khoản.",
    "site.service_status": "Tình trạng hệ thống",
    "site.safety": "Trang này không thu tiền và không hỏi mật khẩu, mã OTP hay số tài khoản ngân hàng.",
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
    "dossier.code": "Hồ sơ",
    "dossier.as_of": "Cập nhật lúc",
    "dossier.refresh": "Xem lại",
    "dossier.stale.title": "Thông tin này có thể đã cũ.",
    "dossier.stale.text": (
        "Hệ thống tạm thời chưa kiểm tra được tình trạng mới nhất. Dưới đây là tình trạng đã ghi nhận lúc"
    ),
    "dossier.due": "Ngày hẹn trả kết quả",
    "dossier.overdue": "Cơ quan có trách nhiệm thông báo lý do và hẹn lại ngày trả kết quả.",
    "dossier.action_needed": "Việc ông/bà cần làm",
    "dossier.next": "Việc tiếp theo",
    "dossier.progress": "Tiến trình",
    "dossier.completion": "Mức độ hoàn thành",
    "dossier.step.done": "đã qua",
    "dossier.step.current": "Hiện tại",
    "dossier.step.final": "Kết thúc",
    "dossier.step.ahead": "chưa tới",
    "dossier.another": "Tra cứu hồ sơ khác",
    "holder.title": "Thông tin hồ sơ",
    "holder.service": "Thủ tục",
    "holder.agency": "Cơ quan giải quyết",
    "holder.official_number": "Số hồ sơ chính thức",
    "holder.received": "Ngày tiếp nhận",
    "holder.finished": "Ngày xử lý xong",
    "holder.returned": "Ngày trả kết quả",
    "holder.timeline": "Quá trình giải quyết",
    "holder.private": "Phần này chỉ hiện trên thiết bị đã mở bằng mã tra cứu.",
    "key.title": "Xem thông tin chi tiết",
    "key.lead": (
        "Nhập mã tra cứu in trên giấy tiếp nhận để xem ngày hẹn trả kết quả, thủ tục, nơi đang giữ hồ sơ, "
        "các bước đã qua và giấy tờ cần bổ sung (nếu có)."
    ),
    "key.label": "Mã tra cứu",
    "key.hint": "Gồm 15 chữ và số, chia thành ba nhóm. Quét mã QR trên giấy tiếp nhận thì không phải nhập.",
    "key.submit": "Xem chi tiết",
    "maintenance.coming": "Bảo trì theo kế hoạch",
    "maintenance.running": "Đang bảo trì",
    "maintenance.back": "Dự kiến hoạt động lại lúc",
    "maintenance.more": "Xem tình trạng hệ thống",
    "service.title": "Tình trạng hệ thống",
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
    "problem.back": "Về trang tra cứu",
    "problem.retry": "Thử lại",
    "problem.advice": "Nên làm gì?",
    "problem.request": "Khi cần hỗ trợ, xin cung cấp mã yêu cầu:",
    "due.left": "còn {days} ngày",
    "due.tomorrow": "ngày mai",
    "due.today": "hôm nay",
    "due.overdue_by_one": "quá hẹn 1 ngày",
    "due.overdue": "quá hẹn {days} ngày",
    "status.submitted.name": "Mới đăng ký",
    "status.submitted.explained": "Hồ sơ đã được gửi đến và đang chờ cơ quan kiểm tra.",
    "status.submitted.next": (
        "Bộ phận Một cửa kiểm tra hồ sơ, sau đó báo cho ông/bà biết hồ sơ được tiếp nhận, "
        "cần bổ sung hay không được tiếp nhận."
    ),
    "status.received.name": "Được tiếp nhận",
    "status.received.explained": "Bộ phận Một cửa đã kiểm tra và tiếp nhận hồ sơ.",
    "status.received.next": (
        "Hồ sơ được chuyển đến bộ phận chuyên môn để giải quyết. Hiện ông/bà chưa phải làm gì thêm."
    ),
    "status.rejected.name": "Không được tiếp nhận",
    "status.rejected.explained": "Cơ quan đã kiểm tra và không tiếp nhận hồ sơ này. Hồ sơ dừng tại đây.",
    "status.rejected.next": (
        "Xin xem lý do trong phiếu từ chối mà cơ quan đã gửi. "
        "Sau khi khắc phục, ông/bà có thể nộp hồ sơ mới; hồ sơ mới sẽ có mã khác."
    ),
    "status.processing.name": "Đang xử lý",
    "status.processing.explained": "Bộ phận chuyên môn đang xem xét và giải quyết hồ sơ.",
    "status.processing.next": (
        "Giải quyết xong, bộ phận chuyên môn chuyển kết quả về Bộ phận Một cửa để trả. "
        "Nếu cần thêm giấy tờ, cơ quan sẽ thông báo. Hiện ông/bà chưa phải làm gì thêm."
    ),
    "status.supplement_required.name": "Yêu cầu bổ sung giấy tờ",
    "status.supplement_required.explained": (
        "Hồ sơ còn thiếu giấy tờ hoặc có giấy tờ chưa đúng. Việc giải quyết tạm dừng cho đến khi ông/bà bổ sung."
    ),
    "status.supplement_required.next": (
        "Xin bổ sung theo phiếu yêu cầu mà cơ quan đã gửi. Khi nhận đủ giấy tờ, "
        "cơ quan giải quyết tiếp; ngày hẹn trả kết quả có thể được tính lại."
    ),
    "status.payment_required.name": "Yêu cầu thực hiện nghĩa vụ tài chính",
    "status.payment_required.explained": (
        "Hồ sơ có khoản tiền phải nộp. Việc giải quyết tạm dừng cho đến khi cơ quan ghi nhận khoản nộp này."
    ),
    "status.payment_required.next": (
        "Xin nộp tiền đúng cách ghi trong thông báo mà cơ quan đã gửi. "
        "Khi ghi nhận khoản nộp, cơ quan giải quyết tiếp hồ sơ."
    ),
    "status.withdrawn.name": "Công dân yêu cầu rút hồ sơ",
    "status.withdrawn.explained": "Người nộp đã yêu cầu rút hồ sơ. Cơ quan không giải quyết hồ sơ này nữa.",
    "status.withdrawn.next": (
        "Khi cần, ông/bà có thể nộp hồ sơ mới. Nếu không phải ông/bà yêu cầu rút, xin báo ngay cho nơi đã nộp."
    ),
    "status.suspended.name": "Dừng xử lý",
    "status.suspended.explained": "Cơ quan đã dừng việc giải quyết hồ sơ này.",
    "status.suspended.next": (
        "Lý do và việc cần làm (nếu có) được ghi trong thông báo của cơ quan. "
        "Nếu chưa nhận được thông báo, xin liên hệ nơi đã nộp hồ sơ."
    ),
    "status.completed.name": "Đã xử lý xong",
    "status.completed.explained": "Hồ sơ đã được giải quyết xong và có kết quả.",
    "status.completed.next": (
        "Ông/bà nhận kết quả theo cách đã đăng ký khi nộp: "
        "tại Bộ phận Một cửa, qua bưu chính hoặc trực tuyến. "
        "Khi đến nhận trực tiếp, xin mang theo giấy tiếp nhận và giấy tờ tùy thân."
    ),
    "status.returned.name": "Đã trả kết quả",
    "status.returned.explained": "Kết quả đã được trả cho người nộp. Việc giải quyết hồ sơ đã kết thúc.",
    "status.returned.next": (
        "Ông/bà không phải làm gì thêm. Nếu kết quả có sai sót, xin báo cho nơi đã trả để được sửa."
    ),
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

_EN: dict[str, str] = {
    "site.name": "Hồ sơ 24",
    "site.skip": "Skip to main content",
    "site.other_language": "Tiếng Việt",
    "site.promise": "Open 24 hours a day, every day of the year. No account needed.",
    "site.service_status": "Service status",
    "site.safety": "This site takes no payments and never asks for passwords, OTP codes or bank accounts.",
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
    "dossier.code": "Dossier",
    "dossier.as_of": "Updated at",
    "dossier.refresh": "Check again",
    "dossier.stale.title": "This may be out of date.",
    "dossier.stale.text": (
        "The latest status cannot be checked at the moment. Below is the last one known, recorded at"
    ),
    "dossier.due": "Result due",
    "dossier.overdue": "The agency has to give the reason and set a new date.",
    "dossier.action_needed": "What you need to do",
    "dossier.next": "What happens next",
    "dossier.progress": "Progress",
    "dossier.completion": "Completed",
    "dossier.step.done": "done",
    "dossier.step.current": "Now",
    "dossier.step.final": "Closed",
    "dossier.step.ahead": "not yet",
    "dossier.another": "Check another dossier",
    "holder.title": "About this dossier",
    "holder.service": "Service",
    "holder.agency": "Agency",
    "holder.official_number": "Official number",
    "holder.received": "Accepted on",
    "holder.finished": "Finished on",
    "holder.returned": "Result handed over on",
    "holder.timeline": "Steps so far",
    "holder.private": "Only the device that was opened with the lookup key shows this part.",
    "key.title": "See the details",
    "key.lead": (
        "Enter the lookup key printed on the receipt to see the due date, the service, who holds the dossier, "
        "the steps so far and any documents still needed."
    ),
    "key.label": "Lookup key",
    "key.hint": "15 letters and digits in three groups. Scanning the receipt’s QR code enters it for you.",
    "key.submit": "Show details",
    "maintenance.coming": "Planned maintenance",
    "maintenance.running": "Maintenance under way",
    "maintenance.back": "Expected to be back at",
    "maintenance.more": "See the service status",
    "service.title": "Service status",
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
    "problem.back": "Back to the lookup form",
    "problem.retry": "Try again",
    "problem.advice": "What to do",
    "problem.request": "When asking for help, give this request code:",
    "due.left": "{days} days left",
    "due.tomorrow": "tomorrow",
    "due.today": "today",
    "due.overdue_by_one": "1 day overdue",
    "due.overdue": "{days} days overdue",
    "status.submitted.name": "Submitted",
    "status.submitted.explained": "The dossier has arrived and is waiting to be checked.",
    "status.submitted.next": (
        "The one-stop unit checks it and tells you whether it is accepted, incomplete or not accepted."
    ),
    "status.received.name": "Accepted",
    "status.received.explained": "The one-stop unit has checked the dossier and accepted it.",
    "status.received.next": ("It goes to the department that decides on it. There is nothing you need to do for now."),
    "status.rejected.name": "Not accepted",
    "status.rejected.explained": "The agency checked the dossier and did not accept it. It ends here.",
    "status.rejected.next": (
        "The reason is in the refusal slip the agency sent. "
        "Once it is put right you can submit a new dossier, which will have a code of its own."
    ),
    "status.processing.name": "Being processed",
    "status.processing.explained": "The department in charge is working on the dossier.",
    "status.processing.next": (
        "When it is done, the result goes back to the one-stop unit to be handed over. "
        "If documents are missing, the agency will tell you. There is nothing you need to do for now."
    ),
    "status.supplement_required.name": "More documents required",
    "status.supplement_required.explained": (
        "Documents are missing or not right. Work on the dossier has paused until you supply them."
    ),
    "status.supplement_required.next": (
        "Supply what is listed in the request the agency sent. Work resumes once everything is there; "
        "the due date may then be set anew."
    ),
    "status.payment_required.name": "Payment required",
    "status.payment_required.explained": (
        "There is an amount to pay. Work on the dossier has paused until the agency has recorded the payment."
    ),
    "status.payment_required.next": (
        "Pay in the way described in the notice the agency sent. Work resumes once the payment is recorded."
    ),
    "status.withdrawn.name": "Withdrawn by the applicant",
    "status.withdrawn.explained": "The applicant asked for it back. The agency no longer works on it.",
    "status.withdrawn.next": (
        "You can submit a new dossier at any time. "
        "If it was not you who withdrew this one, tell the office where it was submitted at once."
    ),
    "status.suspended.name": "Processing stopped",
    "status.suspended.explained": "The agency has stopped working on this dossier.",
    "status.suspended.next": (
        "The reason, and anything you need to do, is in the notice the agency sent. "
        "If you have had no notice, contact the office where the dossier was submitted."
    ),
    "status.completed.name": "Processing finished",
    "status.completed.explained": "The work on the dossier is finished and there is a result.",
    "status.completed.next": (
        "You receive the result in the way chosen when submitting: at the one-stop unit, by post or online. "
        "If you collect it in person, bring the receipt and an identity document."
    ),
    "status.returned.name": "Result handed over",
    "status.returned.explained": "The result has been given to the applicant. The dossier is closed.",
    "status.returned.next": (
        "There is nothing more to do. If the result contains a mistake, "
        "tell the office that handed it over so that it can be corrected."
    ),
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

PHRASES: Mapping[str, Mapping[str, str]] = {"vi": _VI, "en": _EN}
"""Language → key → text. Both languages have the same keys."""


@dataclass(frozen=True, slots=True)
class StatusWords:
    """A status's name, its meaning, and what happens next and by whom."""

    name: str
    explained: str
    next_step: str


@dataclass(frozen=True, slots=True)
class ProblemWords:
    """A problem's title and sentence, and what the citizen can do."""

    title: str
    sentence: str
    advice: tuple[str, ...]


def status_words(slug: str, lang: str) -> StatusWords:
    """The words for a status; KeyError for an unknown slug or language."""
    words, key = PHRASES[lang], f"status.{slug}"
    return StatusWords(words[f"{key}.name"], words[f"{key}.explained"], words[f"{key}.next"])


def problem_words(code: str, lang: str, refusal: Refusal) -> ProblemWords:
    """The words for a refusal: title and advice under `code`; the sentence under it, or else the refusal's own title.

    Raises KeyError for an unknown code or language.
    """
    words, key = PHRASES[lang], f"problem.{code}"
    sentence = words.get(f"{key}.sentence", refusal.title_vi if lang == "vi" else refusal.title)
    return ProblemWords(words[f"{key}.title"], sentence, tuple(words[f"{key}.advice"].splitlines()))


@dataclass(frozen=True, slots=True)
class PartWords:
    """A part of the service: its name, its state in a word, and what that means for a citizen."""

    name: str
    state: str
    sentence: str


def part_words(part: str, state: str, reason: str | None, lang: str) -> PartWords:
    """The words for a part in a state; without a reason the state serves as one. KeyError for unknown ones."""
    words = PHRASES[lang]
    return PartWords(words[f"part.{part}.name"], words[f"part.state.{state}"], words[f"part.{part}.{reason or state}"])


def all_parts_phrase(state: str, lang: str) -> str:
    """The whole service in one sentence; `state` is that of its worst part."""
    return PHRASES[lang][f"part.all.{state}"]


def span_phrase(starts_at: datetime, ends_at: datetime, lang: str) -> str:
    """The span in the times' own zone; the day is named once if both are on the same day."""
    day, last_day = f"{starts_at:%d/%m/%Y}", f"{ends_at:%d/%m/%Y}"
    key = "span.of_a_day" if day == last_day else "span.of_days"
    return PHRASES[lang][key].format(start=f"{starts_at:%H:%M}", end=f"{ends_at:%H:%M}", day=day, last_day=last_day)


def due_phrase(days: int, lang: str) -> str:
    """How far away the due date is: `days` from today, negative when it has passed."""
    named = {1: "due.tomorrow", 0: "due.today", -1: "due.overdue_by_one"}
    key = named.get(days, "due.left" if days > 0 else "due.overdue")
    return PHRASES[lang][key].format(days=abs(days))
