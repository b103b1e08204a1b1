"""Texts of the cases a dossier can be in (lookup/situation.py): what is true, what may be said of its date, what to do.

`case.<case>.lead` is the first sentence, `.do` what the reader does, and `.ask`, where there is one, the words before
the contact. `{n}` is a number of days; `.one` stands for the text when it is 1. `{hours}` is a setting, `{paper}` the
name of the paper the agency sends, in Vietnamese on every page (`paper.<case>`).
"""

_COLLECT_VI = (
    "Vui lòng nhận kết quả theo hình thức đã đăng ký. Nếu đến nhận trực tiếp, mang theo giấy tiếp nhận và giấy tờ "
    "tùy thân; người nhận thay mang thêm giấy ủy quyền."
)
_COLLECT_EN = (
    "Receive it in the way you chose. If you come in person, bring the receipt and an identity document; somebody "
    "collecting for you also needs your written authorisation."
)
_MISTAKES_VI = (
    "Nếu chưa nhận được kết quả (ví dụ gửi qua bưu chính) hoặc kết quả có sai sót, đề nghị ông/bà báo nơi trả kết quả."
)
_MISTAKES_EN = (
    "If you have not received it (for instance by post), or it contains a mistake, tell the office that handed it over."
)

VI: dict[str, str] = {
    "case.1.lead": "Hồ sơ đã được gửi đến và đang chờ cơ quan kiểm tra.",
    "case.1.do": (
        "Với hồ sơ nộp trực tuyến, cơ quan phải trả lời trong {hours} giờ làm việc kể từ khi nhận: tiếp nhận, "
        "yêu cầu bổ sung hoặc từ chối."
    ),
    "case.1.ask": "Quá thời gian này chưa có thông báo, đề nghị ông/bà liên hệ:",
    "case.1.do.no_hours": (
        "Cơ quan sẽ thông báo tiếp nhận, yêu cầu bổ sung hoặc từ chối. Hiện ông/bà chưa cần làm gì thêm."
    ),
    "case.2.lead": "Hồ sơ đã được tiếp nhận và đang chờ giải quyết.",
    "case.2.do": "Hiện ông/bà chưa cần làm gì thêm.",
    "case.2t.lead": "Hồ sơ đã được tiếp nhận và đang chờ giải quyết.",
    "case.2t.do": "Vui lòng kiểm tra lại trang này trước khi đến nhận kết quả.",
    "case.2T.lead": "Hồ sơ đã được tiếp nhận. Đã qua giờ hẹn hôm nay nhưng chưa có kết quả.",
    "case.2T.do": "Vui lòng gọi hỏi trước khi đến nhận kết quả.",
    "case.2o.lead": "Hồ sơ chưa giải quyết xong và đã quá ngày hẹn trả kết quả {n} ngày.",
    "case.2o.lead.one": "Hồ sơ chưa giải quyết xong và đã quá ngày hẹn trả kết quả 1 ngày.",
    "case.2o.do": "Khi quá hạn, cơ quan phải gửi văn bản xin lỗi, nêu rõ lý do và ngày trả kết quả mới.",
    "case.2o.ask": "Nếu chưa nhận được, đề nghị ông/bà liên hệ:",
    "case.3.lead": "Hồ sơ không được tiếp nhận giải quyết và đã kết thúc.",
    "case.3.do": (
        "Lý do được ghi trong {paper}. Nếu khắc phục được, ông/bà có thể nộp hồ sơ mới; hồ sơ mới có mã khác."
    ),
    "case.4.lead": "Hồ sơ đang được giải quyết.",
    "case.4.do": "Hiện ông/bà chưa cần làm gì thêm. Nếu cần bổ sung, cơ quan sẽ thông báo.",
    "case.4t.lead": "Hồ sơ đang được giải quyết.",
    "case.4t.do": "Vui lòng kiểm tra lại trang này trước khi đến nhận kết quả.",
    "case.4T.lead": "Hồ sơ đang được giải quyết. Đã qua giờ hẹn hôm nay nhưng chưa có kết quả.",
    "case.4T.do": "Vui lòng gọi hỏi trước khi đến nhận kết quả.",
    "case.4o.lead": "Hồ sơ chưa giải quyết xong và đã quá ngày hẹn trả kết quả {n} ngày.",
    "case.4o.lead.one": "Hồ sơ chưa giải quyết xong và đã quá ngày hẹn trả kết quả 1 ngày.",
    "case.4o.do": "Khi quá hạn, cơ quan phải gửi văn bản xin lỗi, nêu rõ lý do và ngày trả kết quả mới.",
    "case.4o.ask": "Nếu chưa nhận được, đề nghị ông/bà liên hệ:",
    "case.4c.lead": "Hồ sơ đã được báo xử lý xong, nay đang được giải quyết lại.",
    "case.4c.do": "Cơ quan sẽ thông báo khi có kết quả. Vui lòng gọi hỏi trước khi đến.",
    "case.4co.lead": "Hồ sơ đang được giải quyết lại và đã quá ngày hẹn trả kết quả {n} ngày.",
    "case.4co.lead.one": "Hồ sơ đang được giải quyết lại và đã quá ngày hẹn trả kết quả 1 ngày.",
    "case.4co.do": "Cơ quan sẽ thông báo khi có kết quả. Vui lòng gọi hỏi trước khi đến.",
    "case.5.lead": "Hồ sơ đang chờ người nộp bổ sung, hoàn thiện.",
    "case.5.do": "Vui lòng bổ sung đúng nội dung và thời hạn ghi trong {paper}.",
    "case.5.ask": "Nếu chưa nhận được phiếu, đề nghị ông/bà liên hệ:",
    "case.5b.lead": "Hồ sơ chưa được tiếp nhận, cần bổ sung, hoàn thiện.",
    "case.5b.do": "Vui lòng bổ sung đúng nội dung và thời hạn ghi trong {paper}.",
    "case.5b.ask": "Nếu chưa nhận được phiếu, đề nghị ông/bà liên hệ:",
    "case.6.lead": "Hồ sơ có khoản tiền phải nộp và đang chờ cơ quan ghi nhận khoản tiền này.",
    "case.6.do": (
        "Vui lòng nộp đúng số tiền, đúng cách ghi trong thông báo của cơ quan. Trang này không thu tiền. Nếu đã nộp, "
        "vui lòng giữ biên lai và chờ cơ quan ghi nhận."
    ),
    "case.7.lead": "Hồ sơ đã được rút theo yêu cầu của người nộp.",
    "case.7.do": "Khi cần, ông/bà có thể nộp hồ sơ mới.",
    "case.7.ask": "Nếu không phải ông/bà yêu cầu rút, đề nghị báo ngay cho:",
    "case.8.lead": "Việc giải quyết hồ sơ này đã dừng hoặc đang tạm dừng.",
    "case.8.do": "Lý do được ghi trong thông báo của cơ quan.",
    "case.8.ask": "Nếu chưa nhận được thông báo, đề nghị ông/bà liên hệ:",
    "case.9.lead": "Hồ sơ đã giải quyết xong và đã có kết quả.",
    "case.9.do": _COLLECT_VI,
    "case.9e.lead": "Hồ sơ đã giải quyết xong trước ngày hẹn và đã có kết quả.",
    "case.9e.do": (
        "Ông/bà có thể nhận kết quả khi được thông báo, không cần chờ đến ngày hẹn. Vui lòng gọi hỏi trước khi đến."
    ),
    "case.9r.lead": "Hồ sơ đã giải quyết xong. Kết quả: từ chối giải quyết, có văn bản nêu lý do.",
    "case.9r.do": _COLLECT_VI,
    "case.9p.lead": "Hồ sơ đã giải quyết xong. Kết quả: chấp thuận một phần.",
    "case.9p.do": _COLLECT_VI,
    "case.10.lead": "Kết quả đã được trả và hồ sơ đã kết thúc.",
    "case.10.do": _MISTAKES_VI,
    "case.10r.lead": ("Kết quả đã được trả và hồ sơ đã kết thúc. Kết quả: từ chối giải quyết, có văn bản nêu lý do."),
    "case.10r.do": _MISTAKES_VI,
    "case.10p.lead": "Kết quả đã được trả và hồ sơ đã kết thúc. Kết quả: chấp thuận một phần.",
    "case.10p.do": _MISTAKES_VI,
    "case.10s.lead": "Việc giải quyết đã dừng và hồ sơ đã được trả lại.",
    "case.10s.do": "Lý do được ghi trong thông báo của cơ quan.",
    "case.10s.ask": "Nếu chưa nhận được thông báo, đề nghị ông/bà liên hệ:",
    "case.heading.to_do": "Việc ông/bà cần làm",
    "case.heading.next": "Hướng dẫn",
    "case.content": "Trang này không hiển thị nội dung kết quả; nội dung được ghi trong văn bản trả cho ông/bà.",
    "due.label": "Ngày hẹn trả kết quả",
    "due.label.overdue": "Ngày đã hẹn trả kết quả",
    "due.label.held": "Ngày hẹn trước khi tạm dừng",
    "due.today": "{hour} hôm nay, ngày {day}",
    "due.today.day": "hôm nay, ngày {day}",
    "due.tag.left": "còn {n} ngày (tính cả ngày nghỉ)",
    "due.tag.tomorrow": "ngày mai",
    "due.tag.past_hour": "hôm nay, đã qua giờ hẹn",
    "due.tag.overdue": "quá ngày hẹn {n} ngày (tính cả ngày nghỉ)",
    "due.tag.overdue_by_one": "quá ngày hẹn 1 ngày (tính cả ngày nghỉ)",
    "due.tag.ready": "đã có kết quả",
    "due.note.on_acceptance": "Khi hồ sơ được tiếp nhận, ông/bà sẽ có ngày hẹn trả kết quả.",
    "due.note.on_receipt": "Ngày hẹn ghi trên giấy tiếp nhận; nhập mã tra cứu để xem tại đây.",
    "due.note.if_any": "Ngày hẹn trả kết quả (nếu có) được ghi trên giấy tiếp nhận.",
    "due.note.restart": ("Khi cơ quan nhận đủ hồ sơ, thời hạn giải quyết được tính lại từ đầu và có ngày hẹn mới."),
    "due.note.shift": "Khi hồ sơ được giải quyết tiếp, ngày hẹn được cộng thêm thời gian tạm dừng.",
    "due.note.if_resumed": "Nếu hồ sơ được giải quyết tiếp, sẽ có ngày hẹn mới.",
    "due.note.unchanged": "Ngày hẹn trả kết quả không thay đổi.",
    "due.note.may_change": (
        "Ngày hẹn này có thể thay đổi. Nếu hồ sơ được giải quyết tiếp, ngày hẹn mới (nếu có) sẽ hiển thị tại đây."
    ),
    "due.note.put_off": "Đây là ngày trả kết quả đã được hẹn lại.",
    "due.was_late": "Trước khi tạm dừng ngày {day}, hồ sơ đã quá ngày hẹn trả kết quả {n} ngày.",
    "due.was_late.one": "Trước khi tạm dừng ngày {day}, hồ sơ đã quá ngày hẹn trả kết quả 1 ngày.",
    "due.was_late.hour": "Trước khi tạm dừng ngày {day}, hồ sơ đã qua giờ hẹn trả kết quả.",
    "finished.label": "Giải quyết xong ngày",
    "finished.early": "trước hạn {n} ngày",
    "finished.early.one": "trước hạn 1 ngày",
    "finished.on_time": "đúng hạn",
    "finished.late": "quá hạn {n} ngày",
    "finished.late.one": "quá hạn 1 ngày",
    "returned.label": "Đã trả kết quả ngày",
    "returned.label.stopped": "Đã trả lại hồ sơ ngày",
    "progress.title": "Tiến trình giải quyết",
    "progress.percent": "Mức độ hoàn thành:",
    "step.submitted": "Nộp hồ sơ",
    "step.received": "Tiếp nhận",
    "step.processing": "Xử lý",
    "step.completed": "Xử lý xong",
    "step.returned": "Trả kết quả",
    "step.resumed": "Tiếp tục xử lý",
    "step.is.done": "đã qua",
    "step.is.ahead": "chưa đến",
    "step.tag.now": "Hiện tại",
    "step.tag.on_hold": "Tạm dừng",
    "step.tag.waiting": "Đang chờ",
    "step.tag.stopped": "Dừng",
    "step.tag.closed": "Kết thúc",
    "paper.3": "Phiếu từ chối tiếp nhận giải quyết hồ sơ",
    "paper.5": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
    "paper.5b": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
}

EN: dict[str, str] = {
    "case.1.lead": "The application has arrived and is waiting to be checked.",
    "case.1.do": (
        "For an application made online, the agency must say within {hours} working hours of receiving it whether it "
        "is accepted, needs more, or is refused."
    ),
    "case.1.ask": "If you hear nothing by then, contact:",
    "case.1.do.no_hours": (
        "The agency will say whether it is accepted, needs more, or is refused. "
        "There is nothing you need to do for now."
    ),
    "case.2.lead": "The application has been accepted and is waiting to be processed.",
    "case.2.do": "There is nothing you need to do for now.",
    "case.2t.lead": "The application has been accepted and is waiting to be processed.",
    "case.2t.do": "Please check this page again before you come for the result.",
    "case.2T.lead": (
        "The application has been accepted. The time promised for today has passed and there is no result yet."
    ),
    "case.2T.do": "Please call before you come for the result.",
    "case.2o.lead": "The application is not finished and is {n} days past its due date.",
    "case.2o.lead.one": "The application is not finished and is 1 day past its due date.",
    "case.2o.do": "When a result is late, the agency must send a written apology with the reason and a new date.",
    "case.2o.ask": "If you have not received one, contact:",
    "case.3.lead": "The application was not accepted and is closed.",
    "case.3.do": (
        "The reason is in the refusal notice ({paper}). If it can be put right, you "
        "can apply again; the new application has its own code."
    ),
    "case.4.lead": "The application is being processed.",
    "case.4.do": ("There is nothing you need to do for now. If anything more is needed, the agency will tell you."),
    "case.4t.lead": "The application is being processed.",
    "case.4t.do": "Please check this page again before you come for the result.",
    "case.4T.lead": (
        "The application is being processed. The time promised for today has passed and there is no result yet."
    ),
    "case.4T.do": "Please call before you come for the result.",
    "case.4o.lead": "The application is not finished and is {n} days past its due date.",
    "case.4o.lead.one": "The application is not finished and is 1 day past its due date.",
    "case.4o.do": "When a result is late, the agency must send a written apology with the reason and a new date.",
    "case.4o.ask": "If you have not received one, contact:",
    "case.4c.lead": "The application had been marked as finished and is being worked on again.",
    "case.4c.do": "The agency will tell you when there is a result. Please call before you come.",
    "case.4co.lead": "The application is being worked on again and is {n} days past its due date.",
    "case.4co.lead.one": "The application is being worked on again and is 1 day past its due date.",
    "case.4co.do": "The agency will tell you when there is a result. Please call before you come.",
    "case.5.lead": "The application is waiting for the applicant to supply what was asked for.",
    "case.5.do": ("Supply what is listed in the request for supplements ({paper}), by the date given there."),
    "case.5.ask": "If you have not received it, contact:",
    "case.5b.lead": "The application has not been accepted yet: something is missing or needs correcting.",
    "case.5b.do": ("Supply what is listed in the request for supplements ({paper}), by the date given there."),
    "case.5b.ask": "If you have not received it, contact:",
    "case.6.lead": "There is an amount to pay. The application is waiting until that payment is recorded.",
    "case.6.do": (
        "Pay the amount, and in the way, stated in the agency’s notice. This site takes no payments. If you have "
        "paid, keep the proof and wait until it is recorded."
    ),
    "case.7.lead": "The application was withdrawn at the applicant’s request.",
    "case.7.do": "You can apply again at any time.",
    "case.7.ask": "If it was not you who withdrew it, tell this office at once:",
    "case.8.lead": "Work on this application has been stopped or suspended.",
    "case.8.do": "The reason is in the agency’s notice.",
    "case.8.ask": "If you have not received one, contact:",
    "case.9.lead": "The application has been decided and the result is ready.",
    "case.9.do": _COLLECT_EN,
    "case.9e.lead": "The application was decided before its due date and the result is ready.",
    "case.9e.do": (
        "Once told, you can receive the result without waiting for the due date. Please call before you come."
    ),
    "case.9r.lead": "The application has been decided: it was refused. A document gives the reason.",
    "case.9r.do": _COLLECT_EN,
    "case.9p.lead": "The application has been decided: granted in part.",
    "case.9p.do": _COLLECT_EN,
    "case.10.lead": "The result has been handed over and the application is closed.",
    "case.10.do": _MISTAKES_EN,
    "case.10r.lead": (
        "The result has been handed over and the application is closed. It was refused; a document gives the reason."
    ),
    "case.10r.do": _MISTAKES_EN,
    "case.10p.lead": ("The result has been handed over and the application is closed. It was granted in part."),
    "case.10p.do": _MISTAKES_EN,
    "case.10s.lead": "Work was stopped and the application was handed back.",
    "case.10s.do": "The reason is in the agency’s notice.",
    "case.10s.ask": "If you have not received one, contact:",
    "case.heading.to_do": "What you need to do",
    "case.heading.next": "What happens next",
    "case.content": "This page does not show what was decided; that is in the document you receive.",
    "due.label": "Result due",
    "due.label.overdue": "Was due",
    "due.label.held": "Due date before the hold",
    "due.today": "today, {day}, {hour}",
    "due.today.day": "today, {day}",
    "due.tag.left": "{n} days left (including days off)",
    "due.tag.tomorrow": "tomorrow",
    "due.tag.past_hour": "today, the time has passed",
    "due.tag.overdue": "{n} days overdue (including days off)",
    "due.tag.overdue_by_one": "1 day overdue (including days off)",
    "due.tag.ready": "result ready",
    "due.note.on_acceptance": "The due date is set when the application is accepted.",
    "due.note.on_receipt": "The due date is on the receipt; enter the access key to see it here.",
    "due.note.if_any": "The due date, if there is one, is on the receipt.",
    "due.note.restart": ("Once everything has been received, the time limit starts again and a new due date is set."),
    "due.note.shift": "When work resumes, the length of the hold is added to the due date.",
    "due.note.if_resumed": "If work resumes, there will be a new due date.",
    "due.note.unchanged": "The due date does not change.",
    "due.note.may_change": "This date may change. If work resumes, any new date will appear here.",
    "due.note.put_off": "This is a new due date: the result was put off.",
    "due.was_late": "Before the hold of {day}, the application was {n} days past its due date.",
    "due.was_late.one": "Before the hold of {day}, the application was 1 day past its due date.",
    "due.was_late.hour": "Before the hold of {day}, the time promised for that day had passed.",
    "finished.label": "Decided on",
    "finished.early": "{n} days early",
    "finished.early.one": "1 day early",
    "finished.on_time": "on time",
    "finished.late": "{n} days late",
    "finished.late.one": "1 day late",
    "returned.label": "Handed over on",
    "returned.label.stopped": "Handed back on",
    "progress.title": "Progress",
    "progress.percent": "Progress:",
    "step.submitted": "Submitting",
    "step.received": "Acceptance",
    "step.processing": "Processing",
    "step.completed": "Decision",
    "step.returned": "Handing over",
    "step.resumed": "Work resumes",
    "step.is.done": "done",
    "step.is.ahead": "not yet",
    "step.tag.now": "Now",
    "step.tag.on_hold": "On hold",
    "step.tag.waiting": "Waiting",
    "step.tag.stopped": "Stopped",
    "step.tag.closed": "Closed",
    "paper.3": "Phiếu từ chối tiếp nhận giải quyết hồ sơ",
    "paper.5": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
    "paper.5b": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
}
