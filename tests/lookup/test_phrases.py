import re
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path
from string import Formatter

import pytest

import lookup
from lookup.status import Status
from lookup.web.phrases import PHRASES, due_phrase, problem_words, span_phrase, status_words
from tests.pages.lines import VIETNAMESE

LANGUAGES = ("vi", "en")
TEMPLATES = sorted((Path(lookup.__file__).parent / "web" / "templates").glob("*.html"))
OFFICIAL_NAMES = {
    Status.SUBMITTED: "Mới đăng ký",
    Status.RECEIVED: "Được tiếp nhận",
    Status.REJECTED: "Không được tiếp nhận",
    Status.PROCESSING: "Đang xử lý",
    Status.SUPPLEMENT_REQUIRED: "Yêu cầu bổ sung giấy tờ",
    Status.PAYMENT_REQUIRED: "Yêu cầu thực hiện nghĩa vụ tài chính",
    Status.WITHDRAWN: "Công dân yêu cầu rút hồ sơ",
    Status.SUSPENDED: "Dừng xử lý",
    Status.COMPLETED: "Đã xử lý xong",
    Status.RETURNED: "Đã trả kết quả",
}
PROBLEMS = (
    "empty_code",
    "malformed_code",
    "dossier_not_found",
    "dossier_or_key_not_found",
    "malformed_key",
    "unavailable",
    "too_many_requests",
    "not_found",
    "internal",
)


def placeholders(text: str) -> set[str | None]:
    return {field for _, field, _, _ in Formatter().parse(text) if field is not None}


def test_both_languages_have_the_same_phrases() -> None:
    assert list(PHRASES["vi"]) == list(PHRASES["en"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_phrase_is_tidy_nfc_text(lang: str) -> None:
    for key, text in PHRASES[lang].items():
        assert text, key
        assert text == text.strip(), key
        assert "  " not in text, key
        assert unicodedata.is_normalized("NFC", text), key


def test_both_languages_leave_room_for_the_same_figures() -> None:
    for key, text in PHRASES["vi"].items():
        assert placeholders(text) == placeholders(PHRASES["en"][key]), key


def test_each_language_is_spoken_where_it_is_meant() -> None:
    """By its letters: a Vietnamese phrase has some that English lacks, an English one only in a name it gives."""
    marked = {lang: {key for key, text in PHRASES[lang].items() if VIETNAMESE.search(text)} for lang in LANGUAGES}
    assert marked["en"] == {"site.name", "site.other_language", "form.where.text"}
    assert PHRASES["vi"].keys() - marked["vi"] == {"site.other_language"}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_name_a_meaning_and_a_next_step(status: Status, lang: str) -> None:
    words = status_words(status.slug, lang)
    assert words.name
    assert words.explained.endswith(".")
    assert words.next_step.endswith(".")


def test_vietnamese_names_of_statuses_are_the_official_ones() -> None:
    assert {status: status_words(status.slug, "vi").name for status in Status} == OFFICIAL_NAMES


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_two_statuses_share_a_name(lang: str) -> None:
    assert len({status_words(status.slug, lang).name for status in Status}) == len(Status)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_phrase_about_a_status_belongs_to_one(lang: str) -> None:
    slugs = {key.split(".")[1] for key in PHRASES[lang] if key.startswith("status.")}
    assert slugs == {status.slug for status in Status}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_what_happened_and_what_to_do(code: str, lang: str) -> None:
    words = problem_words(code, lang)
    assert not words.title.endswith(".")
    assert words.sentence.endswith(".")
    assert words.advice
    assert all(line.endswith(".") for line in words.advice)


def test_a_missing_dossier_has_more_than_one_explanation() -> None:
    assert len(problem_words("dossier_not_found", "vi").advice) == 3


@pytest.mark.parametrize(
    ("days", "vi", "en"),
    [
        (12, "còn 12 ngày", "12 days left"),
        (2, "còn 2 ngày", "2 days left"),
        (1, "ngày mai", "tomorrow"),
        (0, "hôm nay", "today"),
        (-1, "quá hẹn 1 ngày", "1 day overdue"),
        (-30, "quá hẹn 30 ngày", "30 days overdue"),
    ],
)
def test_promised_date_is_told_in_days_from_today(days: int, vi: str, en: str) -> None:
    assert (due_phrase(days, "vi"), due_phrase(days, "en")) == (vi, en)


def test_span_names_the_day_once_if_it_is_one() -> None:
    start, end = datetime(2026, 12, 1, 22), datetime(2026, 12, 1, 23, 30)
    assert span_phrase(start, end, "vi") == "22:00–23:30 ngày 01/12/2026"
    assert span_phrase(start, end + timedelta(hours=2), "vi") == "22:00 ngày 01/12/2026 – 01:30 ngày 02/12/2026"
    assert span_phrase(start, end + timedelta(hours=2), "en") == "22:00 on 01/12/2026 – 01:30 on 02/12/2026"


def test_words_for_something_unknown_are_an_error() -> None:
    with pytest.raises(KeyError):
        status_words("lost", "vi")
    with pytest.raises(KeyError):
        problem_words("dossier_not_found", "fr")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_name_only_phrases_there_are(template: Path) -> None:
    for key in re.findall(r'\bt\["([\w.]+)"\]', template.read_text("utf-8")):
        assert key in PHRASES["vi"], key


def test_every_phrase_of_a_page_is_on_one() -> None:
    text = "".join(template.read_text("utf-8") for template in TEMPLATES)
    spoken = {"due", "status", "part", "span"}  # these reach the pages through functions
    computed = {"holder.service", "holder.agency", "holder.official_number"}
    computed |= {"holder.received", "holder.finished", "holder.returned"}
    for key in PHRASES["vi"]:
        from_function = key.split(".")[0] in spoken or (key.count(".") == 2 and key.startswith("problem."))
        if not from_function and key not in computed:
            assert f'"{key}"' in text, key


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_words_of_their_own(template: Path) -> None:
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", template.read_text("utf-8"), flags=re.DOTALL)
    words = re.sub(r"<[^>]*>|G99[\d.-]+|[\d/]+", "", source)
    assert not re.search(r"\w", words), words.strip()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_obey_a_policy_without_inline_script_or_style(template: Path) -> None:
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|data:", template.read_text("utf-8"))
