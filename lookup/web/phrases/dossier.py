"""Texts of a dossier's page: statuses, dates, progress, what its holder sees."""

VI: dict[str, str] = {
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
}

EN: dict[str, str] = {
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
}
