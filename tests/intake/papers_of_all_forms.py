"""A paper of each form, for the tests of papers. To look at them:

python -m tests.intake.papers_of_all_forms DIRECTORY
"""

import sys
from pathlib import Path
from typing import Any

from intake.books.seal import jsonb_text
from intake.papers.rendering import Printing, rendered_anew

SITE = "https://tracuu.songmay.example"
KEY = "2KQ0F-9D3XZ-7MHWA"
STAMP = "AQEAAAAA" * 15
PRINTING = Printing(site=SITE, stamp=STAMP, key=KEY)

AGENCY = {
    "code": "G99.01.01",
    "name": "Bảo hiểm xã hội cơ sở Sông Mây 1 (hư cấu)",
    "above": "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)",
    "phone": "0299 3 812 345",
}
PROVINCE = {"code": "G99.01", "name": "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)"}
APPLICANT = {
    "name": "Nguyễn Thị Ánh Tuyết",
    "id": "079123456742",
    "phone": "0912 345 678",
    "email": "anhtuyet@example.vn",
    "address": "Số 12, đường Trần Hưng Đạo, phường Sông Mây, tỉnh Sông Mây",
}
RECEIVED, DUE, LATER = "2026-11-30T09:41:00+07:00", "2026-12-07T09:41:00+07:00", "2026-12-11T09:41:00+07:00"
COMMON = {
    "format": "hoso24/paper-1",
    "form_version": "2025-09-15",
    "code": "G99.01.01-261130-0147",
    "agency": AGENCY,
    "issued_at": "2026-11-30T09:41:07+07:00",
    "year": 2026,
    "number": 147,
    "service": "S.018",
    "service_name": "Giải quyết hưởng bảo hiểm xã hội một lần",
    "applicant": APPLICANT,
    "officer": "Trần Văn Bình",
    "received_at": RECEIVED,
    "due_at": DUE,
}
DOCUMENTS = [
    {"name": "Sổ bảo hiểm xã hội", "copies": "01 bản chính"},
    {"name": "Đơn đề nghị theo Mẫu số 14-HSB", "copies": "01 bản chính"},
    {"name": "Giấy ủy quyền (nếu có)"},
]
STEPS = [
    {
        "agency": "G99.01",
        "name": PROVINCE["name"],
        "kind": "work",
        "work": "Thẩm định",
        "state": "done",
        "opened_at": RECEIVED,
        "due_at": "2026-12-03T09:41:00+07:00",
        "ended_at": "2026-12-02T16:00:00+07:00",
    },
    {
        "agency": "G99.01.01",
        "name": AGENCY["name"],
        "kind": "hand_over",
        "work": "",
        "state": "open",
        "opened_at": "2026-12-02T16:00:00+07:00",
        "due_at": DUE,
    },
]


def row(number: int) -> dict[str, Any]:
    """One row of a register."""
    return {
        "code": f"G99.01.01-261130-{number:04}",
        "service": "Giải quyết hưởng bảo hiểm xã hội một lần",
        "applicant": "Nguyễn Thị Ánh Tuyết",
        "contact": "Phường Sông Mây, 0912 345 678",
        "lead": "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)",
        "received_at": RECEIVED,
        "due_at": DUE,
        "returned_at": None,
        "way": "Tại quầy",
    }


OF_ALL_FORMS: dict[str, dict[str, Any]] = {
    "receipt": COMMON
    | {
        "documents": DOCUMENTS,
        "sets": 1,
        "limit": {"working_hours": 40},
        "result_by": "counter",
        "representative": {"name": "Lê Văn An", "id": "079000000118", "authority": "Giấy ủy quyền 12/2026"},
        "replaces": {"number": 146, "year": 2026},
    },
    "supplement": COMMON
    | {
        "items": ["Bản sao giấy khai sinh có chứng thực", "Đơn đề nghị: ghi lại số sổ bảo hiểm xã hội"],
        "reason": "Giấy tờ đã nộp chưa có chứng thực.",
    },
    "refusal": COMMON | {"reason": "Hồ sơ không thuộc thẩm quyền giải quyết của cơ quan.\nĐề nghị nộp tại nơi cư trú."},
    "apology": COMMON
    | {
        "due_before": DUE,
        "due_at": LATER,
        "reason": "Cần xác minh thêm quá trình đóng bảo hiểm xã hội tại tỉnh khác.",
    },
    "stop": COMMON | {"reason": "Người nộp đề nghị dừng giải quyết hồ sơ."},
    "control": COMMON | {"office": PROVINCE, "steps": STEPS},
    "register": {
        "agency": AGENCY,
        "issued_at": COMMON["issued_at"],
        "first_day": "2026-11-30",
        "last_day": "2026-11-30",
        "rows": [row(number) for number in range(1, 41)],
    },
    "key": {"agency": AGENCY, "issued_at": COMMON["issued_at"], "code": COMMON["code"]},
    "confirmation": COMMON | {"submitted_at": RECEIVED},
}
OF_ALL_FORMS = {form: content | {"form": form} for form, content in OF_ALL_FORMS.items()}


def text(of: str, **changes: Any) -> str:
    """The content of the paper of this form, with these changes, in a canonical form."""
    return jsonb_text(OF_ALL_FORMS[of] | changes)


def main(directory: Path) -> None:
    """Write a PDF of each."""
    directory.mkdir(parents=True, exist_ok=True)
    for form in OF_ALL_FORMS:
        (directory / f"{form}.pdf").write_bytes(rendered_anew(text(form), PRINTING))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
