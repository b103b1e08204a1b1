"""Requests and answers that the document for partners shows: a made-up dossier of the sample catalogue.

Tests send them, and compare the fields of the answers.
"""

from ops.http.endpoints import Example

CODE = "G99.01.02-261008-0975"
_AT, _DUE = "2026-10-08T08:15:00+07:00", "2026-10-22T08:15:00+07:00"

_RECEIPT = {"form": "receipt", "year": 2026, "number": 147, "version": 1}

RECEIVE = Example(
    body={
        "agency": "G99.01.02",
        "service": "S.004",
        "channel": "direct",
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "phone": "0000000001"},
        "subject": "Hồ sơ mẫu",
    },
    answer={
        "code": CODE,
        "lookup_key": "2KQ0F-9D3XZ-7MHWA",
        "status": "received",
        "due_at": _DUE,
        "version": 1,
        "receipt": {
            "number": CODE,
            "agency": "G99.01.02",
            "service": "S.004",
            "submitted_at": _AT,
            "received_at": _AT,
            "due_at": _DUE,
            "issued_at": "2026-10-08T08:15:02.413205+07:00",
            "link": f"https://hoso24.example/tra-cuu/{CODE}?key=2KQ0F-9D3XZ-7MHWA",
        },
        "papers": [_RECEIPT],
    },
)
MOVE = Example(
    body={"to": "processing", "officer": "cb-07", "expected_version": 1},
    answer={"code": CODE, "version": 2, "status": "processing", "due_at": _DUE},
)
BIND = Example(
    body={"number": "01234/2026/99901"},
    answer={"code": CODE, "version": 3, "official_number": "01234/2026/99901"},
)
CORRECT = Example(
    body={"reason": "Ghi sai tên", "applicant": {"name": "Nguyễn Văn Mâu (hư cấu)"}},
    answer={"code": CODE, "version": 4, "status": "processing", "corrected": ["applicant.name"], "papers": [_RECEIPT]},
)
SYNC = Example(body=[{"id": "so-mau-4711", "source_seq": 7, "dossier": CODE, "status": "completed"}])
KEY = Example(
    body={"officer": "cb-07"},
    answer={
        "code": CODE,
        "version": 5,
        "lookup_key": "2KQ0F-9D3XZ-7MHWA",
        "link": f"https://hoso24.example/tra-cuu/{CODE}?key=2KQ0F-9D3XZ-7MHWA",
    },
)
