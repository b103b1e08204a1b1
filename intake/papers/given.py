"""What a form is filled in with: the words of a paper, made of its content. No I/O.

A template prints what it is given, as text and never as markup. Controls and marks that turn the order of writing are
not printed; a word without a place to break gets places, so that no line leaves the page.

Of a numbered paper the content is Content of intake/rules/papers.py, as JSON has it. The other forms have `form`,
`code` but for the register, `agency` {name, above, phone} and `issued_at`, and besides these:

| form         | content                                                                                              |
|--------------|------------------------------------------------------------------------------------------------------|
| register     | first_day, last_day, rows [{code, service, applicant, contact, lead, received_at, due_at,            |
|              | returned_at, way}]                                                                                   |
| key          | –                                                                                                    |
| confirmation | service_name, applicant, submitted_at                                                                |

What is null or missing is left out of the paper. Moments are texts of ISO 8601 with their offset.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from intake.rules.texts import BIDI_CONTROLS
from lookup.clock import VIETNAM

TITLES: Final = {
    "receipt": "Giấy tiếp nhận hồ sơ và hẹn trả kết quả",
    "supplement": "Phiếu yêu cầu bổ sung, hoàn thiện hồ sơ",
    "refusal": "Phiếu từ chối tiếp nhận giải quyết hồ sơ",
    "apology": "Văn bản xin lỗi và đề nghị gia hạn thời gian giải quyết",
    "stop": "Thông báo dừng giải quyết hồ sơ",
    "control": "Phiếu kiểm soát quá trình giải quyết hồ sơ",
    "register": "Sổ theo dõi hồ sơ",
    "key": "Mã tra cứu hồ sơ",
    "confirmation": "Xác nhận đã nhận hồ sơ trực tuyến",
}
"""Form → its name."""

SIGNS: Final = {
    "receipt": "TNHS",
    "supplement": "PBS",
    "refusal": "PTC",
    "apology": "PXL",
    "stop": "TB",
    "control": "PKS",
}
"""Form → what stands behind its number. A form that is not here has no number and no stamp."""

WITH_KEY: Final = frozenset({"receipt", "key", "confirmation"})
"""Forms that carry the code of the dossier's page with its lookup key."""

RESULT_BY: Final = {"counter": "trực tiếp", "post": "qua dịch vụ bưu chính công ích", "electronic": "trực tuyến"}
KINDS: Final = {
    "decide": "Tiếp nhận",
    "work": "Giải quyết",
    "opinion": "Lấy ý kiến",
    "transfer": "Bàn giao",
    "hand_over": "Trả kết quả",
}

UNIT: Final = "Bộ phận Tiếp nhận và Trả kết quả"

_NOT_PRINTED: Final = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f{BIDI_CONTROLS}\ud800-\udfff\u2028\u2029]")
_LONG_WORD: Final = re.compile(r"\S{25,}")
_PIECE: Final = 12
"""Characters of a long word between two places to break it."""


def given(content: Mapping[str, Any], *, site: str, again: int) -> dict[str, Any]:
    """The texts of this paper's form. `site`: the address that citizens type. `again`: which reprint it is; 0 for none.

    Raises KeyError, TypeError or ValueError for content that is not of its form.
    """
    form = content["form"]
    agency = content["agency"]
    applicant = content.get("applicant") or {}
    texts = {
        "title": TITLES[form],
        "above": agency.get("above"),
        "agency": agency["name"],
        "unit": UNIT,
        "number": f"{content['number']:04}/{SIGNS[form]}" if form in SIGNS else None,
        "place-and-day": _day_in_words(content["issued_at"]),
        "footer": _footer(site, agency),
        "again": f"Bản in lại lần {again}" if again else None,
        "code": content.get("code"),
        "code-line": f"Mã hồ sơ: {content['code']}" if content.get("code") else None,
        "site": urlsplit(site).netloc or site,
        "applicant": applicant.get("name"),
        "applicant-id": applicant.get("id"),
        "address": applicant.get("address"),
        "phone": applicant.get("phone"),
        "email": applicant.get("email"),
        "service": content.get("service_name"),
        "officer": content.get("officer"),
        "submitter": (content.get("representative") or applicant).get("name"),
        "received-at": _moment(content.get("received_at")),
        "due-at": _moment(content.get("due_at")),
        "reason": _lines(content.get("reason")),
        "items": content.get("items") or [],
    }
    more = _OF_A_FORM.get(form)
    printable: dict[str, Any] = _printable(texts | more(content) if more else texts)
    return printable


def _receipt(content: Mapping[str, Any]) -> dict[str, Any]:
    documents, replaced = content.get("documents") or [], content.get("replaces")
    return {
        "papers": [_with(each["name"], each.get("copies")) for each in documents],
        "sets": f"{content['sets']:02} (bộ)" if content.get("sets") else None,
        "time-limit": _limit(content.get("limit") or {}),
        "authorised": _authorised(content.get("representative") or {}),
        "result-at": RESULT_BY.get(content.get("result_by") or ""),
        "replaces": replaced and f"Thay giấy số {replaced['number']:04}/{SIGNS['receipt']} năm {replaced['year']}",
    }


def _supplement(content: Mapping[str, Any]) -> dict[str, Any]:
    agency = content["agency"]
    telephone = f", số điện thoại {agency['phone']}," if agency.get("phone") else ""
    return {
        "sentence": "Trong quá trình hoàn thiện hồ sơ nếu có vướng mắc, Ông/Bà liên hệ với "
        f"{content.get('officer') or agency['name']}{telephone} để được hướng dẫn./."
    }


def _refusal(content: Mapping[str, Any]) -> dict[str, Any]:
    name = content["agency"]["name"]
    return {
        "sentence": f"Qua xem xét, {name} thông báo không tiếp nhận, giải quyết hồ sơ này với lý do cụ thể như sau:"
    }


def _apology(content: Mapping[str, Any]) -> dict[str, Any]:
    name, missed = content["agency"]["name"], content.get("due_before") or content.get("due_at")
    due_at = _moment(content.get("due_at")) if content.get("due_before") else None
    promise = f" và sẽ trả kết quả giải quyết hồ sơ vào {due_at}." if due_at else " vì sự chậm trễ này."
    return {
        "promised-at": _moment(missed),
        "sentence": f"{name} xin lỗi Ông/Bà/Tổ chức{promise}",
    }


def _stop(content: Mapping[str, Any]) -> dict[str, Any]:
    since = _moment(content["issued_at"])
    kept = f" kể từ {since}" if since else ""
    return {"sentence": f"{content['agency']['name']} thông báo dừng giải quyết hồ sơ nêu trên{kept}."}


def _control(content: Mapping[str, Any]) -> dict[str, Any]:
    agency, steps = content["agency"], content.get("steps") or []
    lead = content.get("office") or agency
    others = {step["name"] for step in steps if step["agency"] not in {lead["code"], agency["code"]}}
    givers = [f"{UNIT}, {agency['name']}", *(step["name"] for step in steps)]
    return {
        "lead": lead["name"],
        "others": ", ".join(sorted(others)) or None,
        "rows": [
            {
                "from": giver,
                "to": step["name"],
                "at": _moment(step.get("opened_at")) or "",
                "result": _result(step.get("due_at"), step.get("ended_at")),
                "note": step["work"] or KINDS.get(step["kind"], ""),
            }
            for giver, step in zip(givers, steps, strict=False)
        ],
    }


def _register(content: Mapping[str, Any]) -> dict[str, Any]:
    first, last = _day(content["first_day"]), _day(content["last_day"])
    return {
        "of-days": f"Ngày {first}" if first == last else f"Từ ngày {first} đến ngày {last}",
        "rows": [
            [
                str(number),
                *(row.get(name) or "" for name in ("code", "service", "applicant", "contact", "lead")),
                *(_short(row.get(name)) for name in ("received_at", "due_at", "returned_at")),
                row.get("way") or "",
                "",
                "",
            ]
            for number, row in enumerate(content["rows"], start=1)
        ],
    }


def _confirmation(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"submitted-at": _moment(content.get("submitted_at"))}


_OF_A_FORM: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "receipt": _receipt,
    "supplement": _supplement,
    "refusal": _refusal,
    "apology": _apology,
    "stop": _stop,
    "control": _control,
    "register": _register,
    "confirmation": _confirmation,
}


def _day_in_words(issued_at: str) -> str:
    at = _local(issued_at)
    return f"Ngày {at:%d} tháng {at:%m} năm {at.year}"


def _footer(site: str, agency: Mapping[str, Any]) -> str:
    told = [f"Tra cứu: {urlsplit(site).netloc or site}"]
    if agency.get("phone"):
        told.append(f"Điện thoại: {agency['phone']}")
    return " · ".join(told)


def _limit(limit: Mapping[str, Any]) -> str | None:
    if limit.get("at_once"):
        return "trả kết quả ngay"
    if limit.get("calendar_days"):
        return f"{limit['calendar_days']} ngày"
    hours = limit.get("working_hours")
    if not hours:
        return None
    return f"{hours // 8} ngày làm việc" if hours % 8 == 0 else f"{hours} giờ làm việc"


def _authorised(person: Mapping[str, Any]) -> str | None:
    told = [
        person.get("name"),
        person.get("id") and f"số định danh {person['id']}",
        person.get("authority") and f"giấy tờ ủy quyền: {person['authority']}",
    ]
    return ", ".join(each for each in told if each) or None


def _result(due_at: str | None, ended_at: str | None) -> str:
    """Of one part of the work: before its due day, on it, or later. Blank while it lasts."""
    if not ended_at:
        return ""
    if not due_at or _local(ended_at) > _local(due_at):
        return "Quá hạn" if due_at else ""
    return "Trước hạn" if _local(ended_at).date() < _local(due_at).date() else "Đúng hạn"


def _with(name: str, more: str | None) -> str:
    return f"{name} ({more})" if more else name


def _lines(text: str | None) -> list[str]:
    return [line for line in (text or "").split("\n") if line.strip()]


def _moment(text: str | None) -> str | None:
    """As the forms word it: "09 giờ 41 phút, ngày 30 tháng 11 năm 2026"."""
    if text is None:
        return None
    at = _local(text)
    return f"{at:%H} giờ {at:%M} phút, ngày {at:%d} tháng {at:%m} năm {at.year}"


def _short(text: str | None) -> str:
    return f"{_local(text):%H:%M %d/%m/%Y}" if text else ""


def _day(text: str) -> str:
    return f"{datetime.fromisoformat(text):%d/%m/%Y}"


def _local(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a moment on a paper needs its offset from UTC")
    return at.astimezone(VIETNAM)


def _printable(value: Any) -> Any:
    """The same texts without what cannot be printed, and with places to break."""
    if isinstance(value, str):
        text = _NOT_PRINTED.sub("\N{REPLACEMENT CHARACTER}", value)
        return _LONG_WORD.sub(lambda found: _breakable(found[0]), text)
    if isinstance(value, Mapping):
        return {name: _printable(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_printable(each) for each in value]
    return value


def _breakable(word: str) -> str:
    """A long word with a place to break at every twelfth character that is no mark upon another one."""
    parts, bare = [], 0
    for each in word:
        if not unicodedata.combining(each):
            if bare and bare % _PIECE == 0:
                parts.append("\N{ZERO WIDTH SPACE}")
            bare += 1
        parts.append(each)
    return "".join(parts)
