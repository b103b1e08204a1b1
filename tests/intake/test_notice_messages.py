"""What notices say: which sentences, what never stands in them, and what the head of a mail holds."""

from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from intake.notices import words
from intake.notices.messages import Messages, may_text
from intake.notices.rows import _STANDS, Leased
from intake.notices.smtp_url import SmtpUrl
from intake.notices.tokens import Tokens, secret_of
from tests.intake.told import MESSAGES, SECRET, SENDER, SITE, TOKENS

CODE = "G99.01.01-261201-0001"
ADDRESS = "nguoi.nop@vi-du.example"
DUE = datetime(2026, 12, 9, 9, 30, tzinfo=UTC)
AT = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)


def notice(**fields: Any) -> Leased:
    usual: dict[str, Any] = {
        "code": CODE,
        "version": 3,
        "channel": "mail",
        "kind": "accepted",
        "tries": 0,
        "made_at": AT,
        "lease_until": AT,
        "due_at": DUE,
        "recorded_at": AT,
        "status": 2,
        "removed": False,
        "address": ADDRESS,
        "agency_vi": "BHXH cơ sở Sông Mây 1 (hư cấu)",
        "agency_en": "Sông Mây 1 office (fictitious)",
        "phone": "1900 0000",
        "overtaken": False,
        "restricted": False,
    }
    return msgspec.convert(usual | fields, Leased)


def test_every_kind_has_its_sentences_and_a_subject() -> None:
    kinds = {*_STANDS, "accepted_without_date"}
    assert words.VIETNAMESE.keys() == words.ENGLISH.keys() == words.SUBJECTS.keys() == kinds


@pytest.mark.parametrize(("kind", "channel"), list(product(_STANDS, ["mail", "gateway"])))
def test_a_notice_names_no_person_service_reason_or_key(kind: str, channel: str) -> None:
    row = notice(kind=kind, channel=channel)
    told = MESSAGES.mail(row, ADDRESS).as_string() if channel == "mail" else MESSAGES.text(row, "0901")[1].decode()
    for secret in ("key=", "S.0", "hưu", "Nguyễn"):
        assert secret not in told
    fields = set(Leased.__struct_fields__)
    assert not fields & {"applicant_name", "service", "note", "key_serial", "detail"}, "nor could it"


@pytest.mark.parametrize("kind", _STANDS)
def test_a_text_fits_three_parts_and_has_no_link(kind: str) -> None:
    identity, body = MESSAGES.text(notice(kind=kind, channel="gateway"), "0901234567")
    told = msgspec.json.decode(body)
    assert told.keys() == {"id", "kind", "to", "text", "code"}
    assert (told["id"], told["to"], told["code"], told["kind"]) == (identity, "0901234567", CODE, kind)
    assert len(told["text"]) <= 160
    assert "http" not in told["text"]
    assert "{" not in told["text"]


def test_a_text_with_a_long_name_of_the_site_loses_its_last_sentence() -> None:
    longer = Messages(TOKENS, "https://mot-ten-mien-rat-dai.dich-vu-cong.bhxh-tinh.example", SENDER)
    told = msgspec.json.decode(longer.text(notice(kind="re_appointment", channel="gateway"), "0901")[1])
    assert told["text"].endswith("xin lỗi vì sự chậm trễ.")


def test_the_link_to_stop_leads_to_the_notices_wherever_they_are() -> None:
    body = Messages(TOKENS, SITE, SENDER, "http://127.0.0.1:8099/").mail(notice(), ADDRESS).get_content()
    assert body.count(f"http://127.0.0.1:8099/thong-bao/thoi/{TOKENS.token(CODE, 'mail')}") == 2
    assert f"{SITE}/tra-cuu/{CODE}\n" in body


def test_a_mail_says_it_in_both_languages_with_the_link_and_how_to_stop() -> None:
    message = MESSAGES.mail(notice(), ADDRESS)
    body = message.get_content()
    for sentence in (
        f"Hồ sơ {CODE} đã được tiếp nhận. Hẹn trả kết quả: 16:30 ngày 09/12/2026.",
        f"Application {CODE} has been accepted. Result due at 9 December 2026, 16:30.",
        f"Xem tình trạng hồ sơ: {SITE}/tra-cuu/{CODE}\n",
        "Liên hệ: BHXH cơ sở Sông Mây 1 (hư cấu), 1900 0000.",
        "Thư này không yêu cầu nộp tiền, mật khẩu hay mã OTP.",
    ):
        assert sentence in body, sentence
    assert "Xem tình trạng tại" not in body, "the link says it"
    wanted = f"{SITE}/thong-bao/thoi/{TOKENS.token(CODE, 'mail')}"
    assert body.count(wanted) == 2
    assert message["List-Unsubscribe"] == f"<{wanted}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Auto-Submitted"] == "auto-generated"
    assert (message["To"], message["From"]) == (ADDRESS, SENDER)
    assert message["Subject"] == f"Hồ sơ {CODE}: đã được tiếp nhận"


def test_without_a_date_or_a_telephone_nothing_stands_empty() -> None:
    for kind in _STANDS:
        if kind == "re_appointment":
            continue  # it is about the date
        body = MESSAGES.mail(notice(kind=kind, due_at=None, phone=None), ADDRESS).get_content()
        assert "None" not in body
        assert ": ." not in body
        assert ", ." not in body
        assert "gọi" not in body


def test_a_repeated_mail_is_the_same_down_to_its_id_and_another_one_has_another() -> None:
    first, again = (MESSAGES.mail(notice(tries=tries), ADDRESS).as_bytes() for tries in (0, 5))
    assert first == again
    ids = {
        MESSAGES.mail(notice(**fields), ADDRESS)["Message-ID"]
        for fields in ({}, {"version": 4}, {"code": "G99.01.01-261201-0002"})
    } | {MESSAGES.text(notice(channel="gateway"), "0901")[0]}
    assert len(ids) == 4
    assert not any(CODE in each for each in ids), "an id stands in the logs of every server on the way"


def test_lines_of_a_mail_are_such_as_every_server_takes() -> None:
    for line in MESSAGES.mail(notice(agency_vi="Đ" * 300), ADDRESS).as_bytes().split(b"\r\n"):
        assert len(line) <= 998
        assert line.isascii()


@pytest.mark.parametrize(
    ("hour", "may"),
    [(0, True), (13, True), (14, False), (23, False)],  # UTC: 7:00, 20:00, 21:00, 6:00
)
def test_the_gateway_is_called_by_day(hour: int, may: bool) -> None:
    assert may_text(datetime(2026, 12, 1, hour, 0, tzinfo=UTC)) is may


# -- tokens --------------------------------------------------------------------------------------------------


def test_a_token_is_read_by_whoever_made_it_alone() -> None:
    token = TOKENS.token(CODE, "mail")
    assert TOKENS.read(token) == (CODE, "mail")
    assert Tokens(bytes(32)).read(token) is None
    assert TOKENS.token(CODE, "gateway") != token
    assert CODE not in token
    assert len(token) <= 64


def test_no_character_of_a_token_may_change_and_none_be_added() -> None:
    token = TOKENS.token(CODE, "mail")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, letter in product(range(len(token)), letters):
        altered = token[:place] + letter + token[place + 1 :]
        assert altered == token or TOKENS.read(altered) is None
    for text in ("", "x", token + "A", token[:-1], token + "=", " " + token, "ă" * 20, "-" * 56, "A" * 4000):
        assert TOKENS.read(text) is None


@pytest.mark.parametrize("text", ["", "x", "00", "zz" * 32, "00" * 31])
def test_a_secret_is_thirty_two_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        secret_of(text)
    assert secret_of(SECRET.hex()) == SECRET


# -- where mails go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("smtp://mail.example", SmtpUrl("mail.example", 587, False, True, None, None)),
        ("smtp://u%40x:p%2F@mail.example:25", SmtpUrl("mail.example", 25, False, True, "u@x", "p/")),
        ("smtp://127.0.0.1:2525/?starttls=no", SmtpUrl("127.0.0.1", 2525, False, False, None, None)),
        ("smtps://u:p@mail.example", SmtpUrl("mail.example", 465, True, False, "u", "p")),
        ("file:///var/mails", Path("/var/mails")),
    ],
)
def test_the_url_says_where_mails_go_and_whether_by_tls(url: str, place: Any) -> None:
    assert SmtpUrl.of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        *("http://mail.example", "smtp://", "smtp://h/x", "smtp://h:x", "smtp://u@h", "smtp://:p@h", "mail.example:25"),
        *("smtp://h?starttls=maybe", "smtps://h?starttls=yes", "smtp://h?tls=1", "file://host/x", "file:x"),
    ],
)
def test_any_other_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|option|belong") as refused:
        SmtpUrl.of(url)
    assert "u@h" not in str(refused.value)
