"""Ratings: counted by status and degree, and by nothing that could be joined with a dossier."""

import json
import logging
from collections import Counter

import pytest

from lookup import metrics
from lookup.code import parse
from lookup.lookup_key import KeyRing
from lookup.ratings import SCORES
from lookup.reading.limits import Rate
from lookup.status import Status
from lookup.web.layout import FORMS, RATING
from lookup.web.phrases import PHRASES
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import CITIZEN, OTHER_CITIZEN, Alone, Answer, lookup_alone

KNOWN = parse("G99.12.01-260101-0001")
KEY = KeyRing.from_text(KEY_SECRETS).key(KNOWN)


def counted() -> Counter[tuple[str, str]]:
    (family,) = metrics.RATINGS.collect()
    samples = [each for each in family.samples if each.name.endswith("_total")]
    return Counter({(each.labels["status"], each.labels["score"]): int(each.value) for each in samples})


async def rate(alone: Alone, address: str = RATING["vi"], client: str = CITIZEN, **form: str) -> Answer:
    return await alone.ask(address, "POST", client=client, data={"status": "4", "score": "satisfied"} | form)


@pytest.mark.parametrize("status", Status)
async def test_page_of_every_status_asks_and_its_buttons_count(status: Status) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text, status=status.value)
        for lang, form in FORMS.items():
            for cookie in (None, KEY):
                page = (await alone.ask(f"{form}/{KNOWN.path}", cookie=cookie)).body.decode()
                section = page.partition(f'<form class="rating" action="{RATING[lang]}" method="post"')[2]
                section = section.partition("</form>")[0]
                assert section.startswith(' aria-labelledby="satisfied">\n<p id="satisfied">')
                assert f'name="status" value="{status.value}"' in section
                assert KNOWN.path not in section
                assert [score for score in SCORES if f'name="score" value="{score}"' in section] == [*SCORES]
        before = counted()
        for score in SCORES:
            answer = await rate(alone, status=str(status.value), score=score)
            assert (answer.status, answer.headers["Location"]) == (303, RATING["vi"])
        assert counted() - before == Counter({(status.slug, score): 1 for score in SCORES})


@pytest.mark.parametrize("lang", RATING)
async def test_thanks_are_a_page_that_counts_nothing_when_reloaded(lang: str) -> None:
    async with lookup_alone() as alone:
        before = counted()
        for _ in range(2):
            answer = await alone.ask(RATING[lang])
            assert answer.status == 200
            assert PHRASES[lang]["rating.thanks"] in answer.body.decode()
        assert counted() == before


async def test_nothing_that_is_logged_or_set_joins_a_rating_with_a_dossier(caplog: pytest.LogCaptureFixture) -> None:
    async with lookup_alone(access_log_share=1.0) as alone:
        alone.put(KNOWN.text)
        with caplog.at_level(logging.DEBUG):
            answer = await rate(alone)
        lines = [record for record in caplog.records if record.name == "hoso24.access"]
        assert lines
        for record in caplog.records:
            said = json.dumps({**record.__dict__, "message": record.getMessage()}, default=str)
            assert KNOWN.text not in said
            assert "code_hash" not in said
            assert "satisfied" not in said
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "form",
    [
        {"score": ""},
        {"score": "best"},
        {"score": "very_satisfied\0"},
        {"status": ""},
        {"status": "11"},
        {"status": "04"},
        {"status": "processing"},
        {"status": KNOWN.text},
        {"status": "٤"},
    ],
)
async def test_what_no_form_of_ours_sends_is_refused_and_makes_no_label(form: dict[str, str]) -> None:
    async with lookup_alone() as alone:
        before = counted()
        assert (await rate(alone, **form)).status == 400
        assert counted() == before


async def test_other_sites_form_counts_nothing() -> None:
    async with lookup_alone() as alone:
        before = counted()
        form = {"status": "4", "score": "satisfied"}
        answer = await alone.ask(RATING["en"], "POST", data=form, more={"Sec-Fetch-Site": "cross-site"})
        assert (answer.status, answer.headers["Location"]) == (303, FORMS["en"])
        assert counted() == before


async def test_flood_from_one_network_is_refused_by_name_and_others_still_rate() -> None:
    async with lookup_alone() as alone:
        before, refused = counted(), metrics.limited("rating")._value.get()
        burst = Rate.RATING.allowance.burst
        assert burst == 20
        answers = [await rate(alone) for _ in range(burst + 5)]
        assert [answer.status for answer in answers] == [303] * burst + [429] * 5
        assert PHRASES["vi"]["problem.too_many_ratings.title"] in answers[-1].body.decode()
        assert int(answers[-1].headers["Retry-After"]) == 180
        assert (await rate(alone, client=OTHER_CITIZEN)).status == 303
        assert counted() - before == Counter({("processing", "satisfied"): burst + 1})
        assert metrics.limited("rating")._value.get() - refused == 5
        alone.put(KNOWN.text)
        assert (await alone.ask(f"/tra-cuu/{KNOWN.path}")).status == 200  # nothing else is refused
