import re
import unicodedata
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from string import Formatter

import pytest

import lookup
from lookup.code import MalformedCode
from lookup.lookup_key import MalformedKey
from lookup.ratings import SCORES, TooManyRatings
from lookup.reading.access import DossierNotFound, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.reading.read_through import StatusUnavailable
from lookup.reading.shedding import Overloaded
from lookup.situation import CASES, Note, Stands
from lookup.status import Status
from lookup.web.catalogue_pages import CatalogueUnread, NoSuchService
from lookup.web.developers import ERRORS
from lookup.web.phrases import PHRASES, problem_words, span_phrase, status_words, wait_phrase
from ops.errors import Internal, NoSuchPath, Refusal
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
PROBLEMS: dict[str, Refusal] = {
    "malformed_code": MalformedCode(),
    "dossier_not_found": DossierNotFound(),
    "dossier_or_key_not_found": DossierOrKeyNotFound(),
    "malformed_key": MalformedKey(),
    "unavailable": StatusUnavailable(),
    "too_many_requests": TooManyRequests(),
    "too_many_ratings": TooManyRatings(),
    "lookup_key_required": KeyRequired(),
    "not_found": NoSuchPath(),
    "internal": Internal(),
    "service_not_found": NoSuchService(),
    "catalogue_unavailable": CatalogueUnread(),
}
SENTENCES_OF_PAGES = {
    *("dossier_not_found", "dossier_or_key_not_found", "too_many_requests", "unavailable"),
    *("address_too_long", "head_too_large", "not_found", "internal"),
}
"""Problems whose sentence on a page is not the refusal's title."""


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
    words = {key for key in PHRASES["en"] if key.endswith(".word")}
    papers = {key for key in PHRASES["en"] if key.startswith("paper.")}  # the pages mark them as Vietnamese
    assert marked["en"] == {"site.name", "site.other_language", "form.where.text"} | papers | words
    assert PHRASES["vi"].keys() - marked["vi"] == {"site.other_language", "contact.email"}


# Language → words of machines and programs, begging, and a second word for what has one: "lookup key", "dossier".
NOT_FOR_CITIZENS = {
    "vi": re.compile(
        r"cơ sở dữ liệu|bộ nhớ|bộ đệm|máy (chủ|này)|\bxin (?!lỗi)|\bbạn\b|giấy hẹn|trạng thái|mã yêu cầu", re.I
    ),
    "en": re.compile(r"dossier|look(ed|ing)? ?up|lookup|database|\bcache|\bservers?\b|promised date|\w'\w", re.I),
}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_citizens_are_told_in_their_words(lang: str) -> None:
    told = {key: text for key, text in PHRASES[lang].items() if not key.startswith("developers.")}
    told |= {f"{each.__name__}.title": each.title if lang == "en" else each.title_vi for each in ERRORS}
    assert {key: text for key, text in told.items() if NOT_FOR_CITIZENS[lang].search(text)} == {}


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
@pytest.mark.parametrize("case", CASES)
def test_every_case_says_what_is_true_and_what_to_do(case: str, lang: str) -> None:
    words = PHRASES[lang]
    assert words[f"case.{case}.lead"].endswith(".")
    assert words[f"case.{case}.do"].endswith(".")
    assert words.get(f"case.{case}.ask", ":").endswith(":")
    assert (f"case.{case}.lead.one" in words) is ("{n}" in words[f"case.{case}.lead"])
    assert (f"paper.{case}" in words) is ("{paper}" in words[f"case.{case}.do"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_phrase_about_a_case_belongs_to_one(lang: str) -> None:
    told = {key.split(".")[1] for key in PHRASES[lang] if key.startswith(("case.", "paper."))}
    assert told - {"heading", "content"} == set(CASES)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(("kind", "values"), [("due.note", Note), ("step.tag", Stands)])
def test_every_note_and_every_tag_has_words(kind: str, values: type[Enum], lang: str) -> None:
    told = {key.removeprefix(f"{kind}.") for key in PHRASES[lang] if key.startswith(f"{kind}.")}
    assert told == {each.value for each in values}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_phrase_about_a_status_belongs_to_one(lang: str) -> None:
    slugs = {key.split(".")[1] for key in PHRASES[lang] if key.startswith("status.")}
    assert slugs == {status.slug for status in Status}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_what_happened_and_what_to_do(code: str, lang: str) -> None:
    words = problem_words(code, lang, PROBLEMS[code])
    assert not words.title.endswith(".")
    assert words.sentence.endswith(".")
    assert words.advice
    assert all(line.endswith(".") for line in words.advice)


@pytest.mark.parametrize("code", sorted(PROBLEMS.keys() - SENTENCES_OF_PAGES))
def test_page_and_problem_document_say_the_same_sentence(code: str) -> None:
    refusal = PROBLEMS[code]
    assert problem_words(code, "en", refusal).sentence == refusal.title
    assert problem_words(code, "vi", refusal).sentence == refusal.title_vi


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_sentence_of_a_refusal_stands_among_the_phrases_too(lang: str) -> None:
    assert {key.split(".")[1] for key in PHRASES[lang] if key.endswith(".sentence")} == SENTENCES_OF_PAGES


def test_overload_is_not_the_citizens_fault_and_passes() -> None:
    words = problem_words("unavailable", "vi", Overloaded())
    assert "quá tải" in words.sentence
    assert words.advice[0] == "Vui lòng thử lại sau 1 phút."


@pytest.mark.parametrize(
    ("seconds", "vi", "en"),
    [
        (1, "1 giây", "1 second"),
        (10, "10 giây", "10 seconds"),
        (60, "1 phút", "1 minute"),
        (61, "61 giây", "61 seconds"),
        (120, "2 phút", "2 minutes"),
        (3_599, "60 phút", "60 minutes"),
    ],
)
def test_wait_is_told_in_seconds_or_in_minutes(seconds: int, vi: str, en: str) -> None:
    assert (wait_phrase(seconds, "vi"), wait_phrase(seconds, "en")) == (vi, en)
    assert vi in problem_words("too_many_requests", "vi", TooManyRequests(retry_after=seconds)).advice[0]


def test_unknown_code_is_named_where_it_is_known() -> None:
    assert (
        "G99.01.02-261008-0975"
        in problem_words("dossier_not_found", "vi", DossierNotFound(), "G99.01.02-261008-0975").sentence
    )
    assert problem_words("dossier_not_found", "vi", DossierNotFound()).sentence == DossierNotFound.title_vi


def test_a_missing_dossier_has_more_than_one_explanation() -> None:
    assert len(problem_words("dossier_not_found", "vi", DossierNotFound()).advice) == 3


def test_span_names_the_day_once_if_it_is_one() -> None:
    start, end = datetime(2026, 12, 1, 22), datetime(2026, 12, 1, 23, 30)
    assert span_phrase(start, end, "vi") == "22:00 đến 23:30 ngày 01/12/2026"
    assert span_phrase(start, end + timedelta(hours=2), "vi") == "22:00 ngày 01/12/2026 đến 01:30 ngày 02/12/2026"
    assert span_phrase(start, end + timedelta(hours=2), "en") == "22:00 on 1 December 2026 to 01:30 on 2 December 2026"


def test_words_for_something_unknown_are_an_error() -> None:
    with pytest.raises(ValueError, match="lost"):
        status_words("lost", "vi")
    with pytest.raises(KeyError):
        problem_words("dossier_not_found", "fr", DossierNotFound())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_name_only_phrases_there_are(template: Path) -> None:
    for key in re.findall(r'\bt\["([\w.]+)"\]', template.read_text("utf-8")):
        assert key in PHRASES["vi"], key


def test_every_phrase_of_a_page_is_on_one() -> None:
    text = "".join(template.read_text("utf-8") for template in TEMPLATES)
    # These reach the pages through functions.
    spoken = {"case", "due", "finished", "paper", "part", "returned", "span", "status", "step"}
    spoken |= {"told", "wait"}
    spoken |= {"about", "privacy", "accessibility"}  # tests/lookup/test_about_pages.py reads each of them on its page
    spoken |= {
        "limit",
        "service_case",
        "channel",
        "online",
        "field",
    }  # tests/lookup/test_catalogue_pages.py reads these
    computed = {"holder.service", "holder.agency", "holder.origin", "holder.official_number"}
    computed |= {"holder.put_off", "holder.task_due"}
    computed |= {"form.maintenance.lookup_works", "form.maintenance.others_work"}
    computed |= {"key.of_another", "key.below", "key.general"}
    computed |= {"holder.received", "holder.finished", "holder.returned"}
    computed |= {key for key in PHRASES["vi"] if key.startswith(("maintenance.status.", "maintenance.effect."))}
    computed |= {"calendar.summary", "calendar.description", "list.missing", "list.not_shown"}
    computed |= {f"rating.{score}" for score in SCORES}
    computed |= {key for key in PHRASES["vi"] if key.startswith(("text.", "developers.", "statistics.", "verify."))}
    computed |= {
        "service.description",
        "services.count",
        "service_page.lead",
        "service_page.in_force",
        "service_page.in_force_until",
    }
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
    assert not re.search(
        r"<script(?! type=\"application/ld\+json\">)|<style|\sstyle=|\son\w+=|javascript:|data:",
        template.read_text("utf-8"),
    )
