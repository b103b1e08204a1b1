"""All texts of the citizen's pages, in Vietnamese and in English, as data: one module for each kind of page.

Keys read `page.part`; `status.<slug>.name` exists for every status, `case.<case>.lead` and `.do` for every case,
`problem.<code>.title` and `.advice` for every problem (each line of an advice is one item), and `part.<part>.name`,
`.working` and one sentence for each reason for every part of the service. A problem's sentence is the refusal's own
title; `problem.<code>.sentence` exists where that title is for programs, or a page can say more.
The Vietnamese text is the original and the names of statuses in it are official; the English one follows. What each
page says stands once more, by hand, in tests/pages/situations.toml; `python -m tests.pages` shows where they differ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lookup.status import Status
from lookup.web.phrases import (
    about,
    cases,
    catalogue,
    developers,
    dossier,
    figures,
    form,
    papers,
    portals,
    problems,
    service,
    site,
)
from ops.errors import Refusal

_MODULES = (site, form, dossier, cases, portals, developers, service, catalogue, figures, papers, about, problems)

PHRASES: Mapping[str, Mapping[str, str]] = {
    "vi": {key: text for module in _MODULES for key, text in module.VI.items()},
    "en": {key: text for module in _MODULES for key, text in module.EN.items()},
}
"""Language → key → text. Both languages have the same keys."""


@dataclass(frozen=True, slots=True)
class StatusWords:
    """A status's name, its meaning, and what happens next and by whom."""

    name: str
    explained: str
    next_step: str


@dataclass(frozen=True, slots=True)
class ProblemWords:
    """A problem's title and sentence, and what the citizen can do."""

    title: str
    sentence: str
    advice: tuple[str, ...]


def status_words(slug: str, lang: str) -> StatusWords:
    """The words for a status whatever else is known of its dossier; KeyError for an unknown language, ValueError for
    an unknown slug."""
    words, key = PHRASES[lang], f"status.{slug}"
    case = f"case.{Status.from_slug(slug).value}"
    next_step = words.get(f"{case}.do.no_hours", words[f"{case}.do"])
    return StatusWords(
        words[f"{key}.name"], words[f"{case}.lead"], next_step.format(paper=words.get(f"paper.{case[5:]}"))
    )


def problem_words(code: str, lang: str, refusal: Refusal, dossier: str = "") -> ProblemWords:
    """The words for a refusal: title and advice under `code`; the sentence under it, or else the refusal's own title.

    `dossier`: the code that was asked for, where it is known. Raises KeyError for an unknown code or language.
    """
    words, key = PHRASES[lang], f"problem.{code}"
    sentence = words.get(f"{key}.sentence")
    if sentence is None or ("{code}" in sentence and not dossier):
        sentence = refusal.title_vi if lang == "vi" else refusal.title
    seconds = refusal.retry_after or 1
    advice = words[f"{key}.advice"].format(
        wait=wait_phrase(seconds, lang), minutes=wait_phrase(60 * math.ceil(seconds / 60), lang)
    )
    return ProblemWords(words[f"{key}.title"], sentence.format(code=dossier), tuple(advice.splitlines()))


def wait_phrase(seconds: int, lang: str) -> str:
    """How long to wait: in seconds below two minutes, else in minutes, rounded up. A whole minute is one."""
    minutes = math.ceil(seconds / 60)
    if seconds >= 120 or seconds == 60:
        return PHRASES[lang]["wait.minute" if minutes == 1 else "wait.minutes"].format(n=minutes)
    return PHRASES[lang]["wait.second" if seconds == 1 else "wait.seconds"].format(n=seconds)


@dataclass(frozen=True, slots=True)
class PartWords:
    """A part of the service: its name, its state in a word, and what that means for a citizen."""

    name: str
    state: str
    sentence: str


def part_words(part: str, state: str, reason: str | None, lang: str) -> PartWords:
    """The words for a part in a state; without a reason the state serves as one. KeyError for unknown ones."""
    words = PHRASES[lang]
    return PartWords(words[f"part.{part}.name"], words[f"part.state.{state}"], words[f"part.{part}.{reason or state}"])


def all_parts_phrase(state: str, lang: str, parts: Sequence[str] = ()) -> str:
    """The whole service in one sentence; `state` is that of its worst part, or "maintenance" of the `parts` named."""
    names = [PHRASES[lang][f"part.{part}.name"] for part in parts]
    return PHRASES[lang][f"part.all.{state}"].format(parts=", ".join(names))


def span_phrase(starts_at: datetime, ends_at: datetime, lang: str) -> str:
    """The span in the times' own zone; the day is named once if both are on the same day."""
    day, last_day = catalogue.day_phrase(starts_at, lang), catalogue.day_phrase(ends_at, lang)
    key = "span.of_a_day" if day == last_day else "span.of_days"
    return PHRASES[lang][key].format(start=f"{starts_at:%H:%M}", end=f"{ends_at:%H:%M}", day=day, last_day=last_day)
