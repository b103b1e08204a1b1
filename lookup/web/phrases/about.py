"""Texts of the pages about this site: who runs it, privacy, accessibility.

A page is `<page>.title` and `.lead`; its sections are `<page>.<section>.title` and `.text`, in which each line is one
item of a list. What they promise is the code's: whoever changes cookies, log or limits changes them here.
"""

VI: dict[str, str] = {
    "about.title": "Về trang này",
    "about.lead": "Trang này cho biết hồ sơ thủ tục hành chính đang ở bước nào và cần làm gì tiếp theo.",
    "about.does.title": "Trang này làm gì",
    "about.does.text": (
        "Cho xem tình trạng chung của hồ sơ khi nhập mã hồ sơ, không cần tài khoản.\n"
        "Cho xem ngày hẹn trả kết quả, thủ tục, nơi đang giải quyết và các bước đã qua khi nhập thêm mã tra cứu.\n"
        "Cho xem danh mục thủ tục: thời hạn giải quyết, giấy tờ cần nộp, nơi nộp."
    ),
    "about.not.title": "Trang này không làm gì",
    "about.not.text": (
        "Không nhận hồ sơ và không sửa hồ sơ; việc này do nơi tiếp nhận hồ sơ thực hiện.\n"
        "Không thu tiền, không hỏi mật khẩu, mã OTP hay số tài khoản ngân hàng.\n"
        "Không thay thế giấy tiếp nhận và văn bản trả kết quả của cơ quan."
    ),
    "about.source.title": "Thông tin lấy từ đâu",
    "about.source.text": (
        "Các cơ quan tiếp nhận và giải quyết hồ sơ cập nhật tình trạng; thay đổi thường hiển thị sau vài giây.\n"
        "Mỗi trang hồ sơ ghi rõ thông tin tính đến lúc nào. Khi chưa kiểm tra được thông tin mới nhất, trang nói rõ.\n"
        "Nếu tình trạng hiển thị không đúng, đề nghị hỏi nơi đã nộp hồ sơ."
    ),
    "privacy.title": "Quyền riêng tư",
    "privacy.lead": "Trang này giữ ít thông tin nhất có thể và không theo dõi người dùng.",
    "privacy.shown.title": "Thông tin được hiển thị",
    "privacy.shown.text": (
        "Họ tên, số định danh, địa chỉ và số điện thoại của người nộp không hiển thị trên trang này. Phần mềm của "
        "trang không có quyền đọc các thông tin đó.\n"
        "Khi chỉ có mã hồ sơ, trang hiển thị tình trạng chung. Thông tin chi tiết chỉ hiển thị khi có mã tra cứu.\n"
        "Nội dung cần bổ sung và ghi chú do cơ quan viết; chỉ người có mã tra cứu xem được."
    ),
    "privacy.more": "Đơn vị vận hành đã chọn hiển thị thêm cho mọi người: {fields}.",
    "privacy.more.due": "ngày hẹn trả kết quả",
    "privacy.more.dates": "ngày tiếp nhận, ngày giải quyết xong, ngày trả kết quả",
    "privacy.more.official_number": "số hồ sơ",
    "privacy.more.agency": "cơ quan giải quyết",
    "privacy.more.service": "tên thủ tục",
    "privacy.cookies.title": "Cookie được dùng",
    "privacy.cookies.text": (
        "Khi mở hồ sơ bằng mã tra cứu, trình duyệt giữ một cookie tên {cookie} chứa mã tra cứu, tối đa {minutes} "
        "phút. Cookie chỉ được gửi khi mở đúng trang của hồ sơ đó.\n"
        "Nếu chọn ghi nhớ trên thiết bị này, trình duyệt giữ mã hồ sơ (không có mã tra cứu) trong cookie "
        "{list_cookie}, tối đa {list_days} ngày.\n"
        "Ngoài ra trang không đặt cookie nào và không lưu gì khác trên thiết bị.\n"
        "Đánh giá chỉ được đếm theo tình trạng của hồ sơ, không kèm mã hồ sơ."
    ),
    "privacy.log.title": "Nhật ký truy cập",
    "privacy.log.text": (
        "Phần mềm chỉ ghi nhật ký một phần các lượt truy cập: thời điểm, loại trang, kết quả và thời gian trả lời. "
        "Thay cho mã hồ sơ là một chuỗi ký tự không cho biết mã.\n"
        "Mã tra cứu, địa chỉ mạng (IP) và loại trình duyệt không được ghi.\n"
        "Nhật ký được dùng để tìm lỗi. Thời gian lưu do đơn vị vận hành trang quy định; có thể hỏi theo liên hệ "
        "ở trên.\n"
        "Thiết bị mạng đặt trước trang này có thể có nhật ký riêng của đơn vị vận hành."
    ),
    "privacy.limits.title": "Chống dò mã hàng loạt",
    "privacy.limits.text": (
        "Để hạn chế việc dò mã hàng loạt, hệ thống đếm lượt tra cứu theo địa chỉ mạng. Số đếm chỉ được giữ tạm "
        "thời, không ghi vào nhật ký và không dùng vào việc khác."
    ),
    "privacy.others.title": "Bên thứ ba",
    "privacy.others.text": (
        "Trang không dùng công cụ thống kê, quảng cáo hay nội dung của bên thứ ba, và không chạy mã lệnh nào trên "
        "trình duyệt.\n"
        "Khi bấm liên kết sang trang khác, trang đó không được cho biết ông/bà đến từ đâu."
    ),
    "privacy.rights.title": "Quyền của ông/bà",
    "privacy.rights.text": (
        "Để xem, sửa hoặc xóa thông tin cá nhân trong hồ sơ, đề nghị gửi yêu cầu đến nơi đã nộp hồ sơ.\n"
        "Câu hỏi về việc bảo vệ thông tin trên trang này: gửi đơn vị vận hành theo liên hệ ở trên."
    ),
    "accessibility.title": "Hỗ trợ tiếp cận",
    "accessibility.lead": "Trang này được làm để ai cũng dùng được, kể cả khi nghe trang đọc hoặc chỉ dùng bàn phím.",
    "accessibility.works.title": "Trang này hỗ trợ gì",
    "accessibility.works.text": (
        "Dùng được bằng bàn phím và bằng phần mềm đọc màn hình.\n"
        "Xem được trên màn hình nhỏ và khi phóng to chữ, không phải cuộn ngang.\n"
        "Màu sắc theo chế độ sáng hoặc tối của thiết bị; không có thông tin nào chỉ thể hiện bằng màu.\n"
        "Không có nội dung nhấp nháy, không giới hạn thời gian đọc, không hỏi mã hình ảnh."
    ),
    "accessibility.state.title": "Đã kiểm tra đến đâu",
    "accessibility.state.text": (
        "Trang hướng tới chuẩn WCAG 2.2, mức AA.\n"
        "Mỗi lần sửa đổi, các loại trang được kiểm tra bằng công cụ tự động, trên màn hình hẹp, với nền sáng và nền "
        "tối.\n"
        "Chưa có đánh giá của người khuyết tật hoặc của một đơn vị độc lập."
    ),
    "accessibility.limits.title": "Những điểm còn hạn chế",
    "accessibility.limits.text": (
        "Ghi chú của cơ quan và tên đơn vị, phòng ban hiển thị đúng như cơ quan đã viết.\n"
        "Trang tiếng Anh không dịch các ghi chú đó."
    ),
    "accessibility.help.title": "Nếu gặp khó khăn",
    "accessibility.help.text": (
        "Vui lòng báo cho đơn vị vận hành theo liên hệ ở trên: trang nào, việc gì chưa làm được, dùng thiết bị gì.\n"
        "Cũng có thể hỏi tình trạng hồ sơ tại nơi đã nộp; khi hỏi, đọc mã hồ sơ."
    ),
    "owner.title": "Đơn vị vận hành",
    "owner.name": "Đơn vị",
    "owner.contact": "Liên hệ",
    "owner.hotline": "Tổng đài hỗ trợ",
    "owner.missing": "Chưa khai báo đơn vị vận hành trang này.",
    "owner.no_contact": "Chưa khai báo địa chỉ liên hệ. Đề nghị hỏi nơi đã nộp hồ sơ.",
    "owner.back": "Về trang tra cứu",
}

EN: dict[str, str] = {
    "about.title": "About this site",
    "about.lead": "This site shows which step an application has reached and what to do next.",
    "about.does.title": "What this site does",
    "about.does.text": (
        "It shows the general status of an application to anyone who enters its code. No account is needed.\n"
        "With the access key as well it shows the due date, the service, who is dealing with it and the steps so far.\n"
        "It lists the services: time limits, documents needed, where to apply."
    ),
    "about.not.title": "What this site does not do",
    "about.not.text": (
        "It takes no applications and changes none; the office that receives applications does.\n"
        "It takes no payments and never asks for passwords, OTP codes or bank account numbers.\n"
        "It does not replace the receipt, or the document with the result."
    ),
    "about.source.title": "Where the information comes from",
    "about.source.text": (
        "The agencies that receive and decide applications update the status; changes usually appear within seconds.\n"
        "Each status page says as of when it is correct. When the latest status cannot be checked, the page says so.\n"
        "If the status shown is wrong, ask the office where you applied."
    ),
    "privacy.title": "Privacy",
    "privacy.lead": "This site keeps as little as possible and does not track anyone.",
    "privacy.shown.title": "What is shown",
    "privacy.shown.text": (
        "The applicant’s name, identity number, address and telephone number are not shown on this site. Its software "
        "has no right to read them.\n"
        "With the application code alone, the general status is shown. Details are shown only with the access key.\n"
        "What the agency asks for, and its notes, are written by the agency; only the holder of the access key sees "
        "them."
    ),
    "privacy.more": "The operator has chosen to show to everyone as well: {fields}.",
    "privacy.more.due": "the due date",
    "privacy.more.dates": "when it was accepted, decided and handed over",
    "privacy.more.official_number": "the official number",
    "privacy.more.agency": "the agency in charge",
    "privacy.more.service": "the name of the service",
    "privacy.cookies.title": "Cookies used",
    "privacy.cookies.text": (
        "When an application is opened with its access key, the browser keeps one cookie, {cookie}, which contains the "
        "key, for at most {minutes} minutes. It is sent only to the page of that application.\n"
        "If you choose to remember it on this device, the browser keeps the application code (no access key) in the "
        "cookie {list_cookie}, for at most {list_days} days.\n"
        "The site sets no other cookie and stores nothing else on the device.\n"
        "Ratings are only counted, by the status of the application; its code is not kept."
    ),
    "privacy.log.title": "Access log",
    "privacy.log.text": (
        "The software logs some of the visits: the time, the kind of page, the result and how long it took. In place "
        "of the application code there is a text from which the code cannot be read.\n"
        "Access keys, network (IP) addresses and the kind of browser are not logged.\n"
        "The log is used to find faults. The operator decides how long it is kept; ask at the contact above.\n"
        "Network equipment in front of this site may have a log of its own, kept by the operator."
    ),
    "privacy.limits.title": "Protection against reading off codes",
    "privacy.limits.text": (
        "To hinder the reading off of codes in bulk, the system counts visits by network address. The counts are held "
        "for a short time only, are not logged and serve no other purpose."
    ),
    "privacy.others.title": "Third parties",
    "privacy.others.text": (
        "The site uses no statistics tools, no advertising and no content of third parties, and runs no script in the "
        "browser.\n"
        "When you follow a link to another site, it is not told where you came from."
    ),
    "privacy.rights.title": "Your rights",
    "privacy.rights.text": (
        "To see, correct or delete personal data in an application, ask the office where you applied.\n"
        "Questions about data protection on this site: write to the operator at the contact above."
    ),
    "accessibility.title": "Accessibility",
    "accessibility.lead": "This site is made for everybody, also for listening to it and for the keyboard alone.",
    "accessibility.works.title": "What it supports",
    "accessibility.works.text": (
        "It can be used with the keyboard and with a screen reader.\n"
        "It can be read on small screens and with enlarged text, without scrolling sideways.\n"
        "Its colours follow the device’s light or dark mode; nothing is told by colour alone.\n"
        "Nothing blinks, there is no time limit for reading, and no picture puzzles are asked."
    ),
    "accessibility.state.title": "What was tested",
    "accessibility.state.text": (
        "The site aims at WCAG 2.2, level AA.\n"
        "With every change, each kind of page is checked by an automatic tool on a narrow screen, in light and dark "
        "colours.\n"
        "It has not been assessed by people with disabilities or by an independent body yet."
    ),
    "accessibility.limits.title": "Known limits",
    "accessibility.limits.text": (
        "Notes by agencies, and names of offices and departments, are shown as the agency wrote them.\n"
        "The English pages do not translate these notes."
    ),
    "accessibility.help.title": "If something does not work for you",
    "accessibility.help.text": (
        "Tell the operator at the contact above: which page, what could not be done, and on what device.\n"
        "You can also ask for the status at the office where you applied; give the application code."
    ),
    "owner.title": "Who runs this site",
    "owner.name": "Agency",
    "owner.contact": "Contact",
    "owner.hotline": "Helpline",
    "owner.missing": "The operator of this site is not declared.",
    "owner.no_contact": "No contact is declared. Ask the office where you applied.",
    "owner.back": "Back to the form",
}
