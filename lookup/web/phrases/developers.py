"""Texts of the page for developers. What stands in `…` there is code and is printed as such."""

VI: dict[str, str] = {
    "developers.title": "Dành cho nhà phát triển",
    "developers.lead": (
        "Cổng và trang khác có thể dẫn đến trang tra cứu, hoặc đọc tình trạng hồ sơ qua API. Không cần đăng ký, "
        "không cần khóa API."
    ),
    "developers.docs": "Toàn bộ API, bằng tiếng Anh:",
    "developers.openapi": "tài liệu OpenAPI 3.1",
    "developers.sample": "Mã hồ sơ và mã tra cứu trong các ví dụ là mã giả định; hãy thay bằng mã thật.",
    "developers.form": "Ô tra cứu trên trang khác",
    "developers.form.text": "Đoạn HTML này đủ để đặt ô tra cứu vào bất kỳ trang nào, không cần JavaScript.",
    "developers.links": "Liên kết thẳng đến hồ sơ",
    "developers.links.text": (
        "Mọi cách viết của mã đều được chuyển (301) đến một địa chỉ duy nhất: chữ hoa, chữ thường, dấu cách, dấu gạch "
        "khác nhau."
    ),
    "developers.json": "API trong một phút",
    "developers.json.text": (
        "Chỉ cần mã hồ sơ. Đây là những gì ai có mã cũng xem được; đơn vị vận hành có thể cho hiển thị thêm trường."
    ),
    "developers.json.etag": (
        "Câu trả lời có ETag. Gửi lại trong If-None-Match: hồ sơ chưa đổi thì nhận 304, không có nội dung."
    ),
    "developers.json.at_least": "Tham số at_least=N: không trả về phiên bản cũ hơn N; nếu chưa có thì trả 412.",
    "developers.holder": "Thông tin của người giữ giấy tiếp nhận",
    "developers.holder.text": (
        "Kèm mã tra cứu in trên giấy tiếp nhận trong đầu mục Hoso24-Key, không bao giờ trong địa chỉ. Câu trả lời chỉ "
        "dành cho người giữ giấy: không được lưu lại hay chia sẻ."
    ),
    "developers.holder.fields": (
        "outcome: kết quả giải quyết (granted, refused hoặc partly). reason: lý do từ chối, rút hoặc dừng, do cơ quan "
        "ghi. pauses: các lần tạm dừng thời hạn; until là null khi còn tạm dừng, since sau due_before nghĩa là khi đó "
        "đã quá hạn. Trong timeline: late là bước được ghi nhận sau, due_at là ngày hẹn lại hoặc hạn của một việc "
        "(task, work)."
    ),
    "developers.stale": "Khi chưa kiểm tra được thông tin mới nhất",
    "developers.stale.text": (
        "Khi hệ thống gặp sự cố, câu trả lời có thêm stale và as_of: đó là tình trạng tại thời điểm as_of, có thể đã "
        "thay đổi. Hãy hiển thị điều này cho người dùng."
    ),
    "developers.batch": "Nhiều hồ sơ cùng lúc",
    "developers.batch.text": (
        "Tối đa {n} hồ sơ một lần; mỗi hồ sơ một kết quả, đúng thứ tự. Kết quả bị từ chối có error, status, title và "
        "thường có detail."
    ),
    "developers.text": "Dạng văn bản cho tổng đài và tin nhắn",
    "developers.text.text": (
        "Dưới 300 byte, giống trang dành cho mọi người. Lỗi cũng là văn bản, cùng mã trạng thái HTTP."
    ),
    "developers.browser": "Từ trình duyệt, trên trang của cổng khác",
    "developers.browser.text": (
        "Mọi trang đều được đọc bằng GET và HEAD dưới /api/v1/ (CORS). Không gửi được Hoso24-Key và Authorization từ "
        "trang khác; thông tin của người giữ giấy tiếp nhận chỉ đọc được từ máy chủ."
    ),
    "developers.rates": "Giới hạn",
    "developers.rates.text": (
        "Tính theo mạng, cho những hồ sơ và mã khác nhau được xem mà không có mã tra cứu. Xem lại một hồ sơ và xem "
        "bằng đúng mã tra cứu thì không bị tính. Vượt giới hạn: 429, chờ số giây ghi ở Retry-After. Câu trả lời 404, "
        "429 và câu trả lời cho nhiều hồ sơ có RateLimit-Policy và RateLimit: r lượt còn lại trong t giây."
    ),
    "developers.rate": "{burst} lượt cùng lúc, sau đó {hour} lượt mỗi giờ",
    "developers.rate.missing": "Mã không có hồ sơ, theo địa chỉ IPv4 hoặc mạng /48",
    "developers.rate.wrong_key": "Mã tra cứu không khớp, theo địa chỉ IPv4 hoặc mạng /48",
    "developers.rate.primary": "Lượt hỏi có at_least cần đến máy chủ chính",
    "developers.rate.home_prefix": "Hồ sơ của một cơ quan và một ngày, theo mạng IPv6 /64",
    "developers.rate.home": "Hồ sơ của mọi cơ quan và mọi ngày, theo mạng IPv6 /64",
    "developers.rate.network_prefix": "Hồ sơ của một cơ quan và một ngày, theo địa chỉ IPv4 hoặc mạng /48",
    "developers.rate.network": "Hồ sơ của mọi cơ quan và mọi ngày, theo địa chỉ IPv4 hoặc mạng /48",
    "developers.errors": "Lỗi",
    "developers.errors.text": (
        "Mỗi lời từ chối là application/problem+json (RFC 9457). Trường code không bao giờ đổi nghĩa; title theo "
        "Accept-Language. Danh sách sau là đầy đủ:"
    ),
    "sandbox.title": "Khu thử nghiệm",
    "sandbox.text": (
        "Mười hồ sơ giả định, mỗi tình trạng một hồ sơ, không thay đổi. Dưới đây là mã hồ sơ và mã tra cứu thật của "
        "từng hồ sơ; ví dụ sau chạy được ngay."
    ),
    "sandbox.hour": "Hồ sơ của giờ này",
    "sandbox.hour.text": (
        "Đầu mỗi giờ có một hồ sơ mới, mã gồm ngày và giờ bắt đầu. Trong vòng 55 phút, hồ sơ tự đi qua các bước: tiếp "
        "nhận, bổ sung giấy tờ, nộp phí, xử lý xong và trả kết quả. Hồ sơ bị xóa sau 7 ngày. Nếu hệ thống vừa khởi "
        "động giữa giờ, hồ sơ của giờ đó bắt đầu ngay lúc ấy."
    ),
    "sandbox.own": (
        "Để gửi, chuyển bước và theo dõi hồ sơ thử nghiệm của mình, vui lòng đề nghị đơn vị vận hành cấp mã truy cập "
        "(token) của khu thử nghiệm và cho biết địa chỉ API tiếp nhận; trang /docs tại địa chỉ đó mô tả API này. "
        "Hồ sơ gửi vào cơ quan {agency} và cũng bị xóa sau 7 ngày. Vui lòng không gửi thông tin của người thật."
    ),
}

EN: dict[str, str] = {
    "developers.title": "For developers",
    "developers.lead": (
        "Other portals and sites can link to the status pages, or read the status of an application by the API. "
        "No registration and no API key is needed."
    ),
    "developers.docs": "The whole API:",
    "developers.openapi": "OpenAPI 3.1",
    "developers.sample": "The codes and keys in the examples are made up; put real ones in their place.",
    "developers.form": "A form on another site",
    "developers.form.text": "This HTML is enough to put the form on any site, without JavaScript.",
    "developers.links": "Links to an application",
    "developers.links.text": (
        "Every spelling of a code is redirected (301) to one address: capital or small letters, blanks, other dashes."
    ),
    "developers.json": "The API in one minute",
    "developers.json.text": (
        "The code is enough. This is what anyone who has the code may see; an installation may add fields."
    ),
    "developers.json.etag": (
        "The answer has an ETag. Send it in If-None-Match: as long as nothing has changed you get a 304 without a body."
    ),
    "developers.json.at_least": (
        "With at_least=N you never get a version below N; while there is none as high, you get 412."
    ),
    "developers.holder": "What the holder of the receipt sees",
    "developers.holder.text": (
        "Send the access key printed on the receipt in the header Hoso24-Key, never in the address. The answer is the "
        "holder’s alone: it must not be stored or shared."
    ),
    "developers.holder.fields": (
        "outcome: granted, refused or partly. reason: why it was refused, withdrawn or suspended, in the agency’s "
        "words. pauses: when the time limit stood still; until is null while it does, and since after due_before means "
        "that it was overdue by then. In the timeline, late marks a step recorded later, and due_at is a new due date, "
        "or that of one task (task, work)."
    ),
    "developers.stale": "When the latest status cannot be checked",
    "developers.stale.text": (
        "During a fault the answer has two more fields, stale and as_of: this is how it stood at as_of, and it may "
        "have changed since. Please show that to the reader."
    ),
    "developers.batch": "Several applications at once",
    "developers.batch.text": (
        "At most {n} in a request; one result for each, in the same order. A refused one has error, status, title and "
        "mostly detail."
    ),
    "developers.text": "As text, for call centres and text messages",
    "developers.text.text": (
        "Less than 300 bytes, the same as the page for anyone. Errors are text too, with the same HTTP status."
    ),
    "developers.browser": "From a browser, on another site’s page",
    "developers.browser.text": (
        "Every site may read below /api/v1/ with GET and HEAD (CORS). Hoso24-Key and Authorization cannot be sent from "
        "another site’s page: the holder’s view is for servers only."
    ),
    "developers.rates": "Limits",
    "developers.rates.text": (
        "Counted by network are the different applications and codes that are asked for without a key. Asking again "
        "for the same one, and asking with the right key, is not counted. Above a limit you get 429: wait for the "
        "seconds in Retry-After. Answers with 404 or 429, and those to several applications, have RateLimit-Policy "
        "and RateLimit: r are left for the next t seconds."
    ),
    "developers.rate": "{burst} at once, after that {hour} an hour",
    "developers.rate.missing": "Codes of no application, by IPv4 address or /48",
    "developers.rate.wrong_key": "Access keys that do not match, by IPv4 address or /48",
    "developers.rate.primary": "Requests with at_least that need the primary server",
    "developers.rate.home_prefix": "Applications of one agency and day, by IPv6 /64",
    "developers.rate.home": "Applications of all agencies and days, by IPv6 /64",
    "developers.rate.network_prefix": "Applications of one agency and day, by IPv4 address or /48",
    "developers.rate.network": "Applications of all agencies and days, by IPv4 address or /48",
    "developers.errors": "Errors",
    "developers.errors.text": (
        "Every refusal is application/problem+json (RFC 9457). The meaning of a code never changes; the title follows "
        "Accept-Language. This list is complete:"
    ),
    "sandbox.title": "The sandbox",
    "sandbox.text": (
        "Ten made-up applications, one for each status, which stay as they are. Below are their codes and access keys, "
        "which are real: this example works as it stands."
    ),
    "sandbox.hour": "The application of this hour",
    "sandbox.hour.text": (
        "Every hour a new one begins, with the day and the time in its code. Within 55 minutes it goes through "
        "acceptance, a supplement, a payment and completion, until its result is handed over. It is removed after "
        "7 days. Where the system was started within an hour, that of this hour began then."
    ),
    "sandbox.own": (
        "To submit, move and follow applications of your own, ask the operator for a token of the sandbox and for the "
        "address of the intake API, whose page /docs describes it. Yours go to the agency {agency}, and are removed "
        "after 7 days as well. Please send nothing about real people."
    ),
}
