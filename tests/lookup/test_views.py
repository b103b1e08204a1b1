"""What leaves the lookup about a dossier is exactly what its view holds: no field more, and each with its value."""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM, microseconds
from lookup.dossier import Record, Shows, pack
from lookup.settings import LookupSettings
from lookup.situation import completion
from lookup.status import Status
from lookup.web.answers import Answers
from ops import settings
from tests.conftest import KEY_SECRETS
from tests.lookup.offline import CATALOGUE, Offline
from tests.lookup.views import ADDED, ANYONE, HOLDER, KNOWN, LEAST, LEAST_KNOWN, RECORD, SEEN, STALE, only

SWITCHES = [frozenset(some) for n in range(len(Shows) + 1) for some in itertools.combinations(Shows, n)]
SENSITIVE = "S.008"
ENVIRON = {
    "HOSO24_PG_READER_URL": "postgresql://hoso24_reader:x@127.0.0.1/hoso24",
    "HOSO24_REDIS_URL": "redis://127.0.0.1/0",
    "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
}

dossiers = pytest.mark.parametrize(("record", "known"), [(RECORD, KNOWN), (LEAST, LEAST_KNOWN)], ids=["full", "least"])
ages = pytest.mark.parametrize("marked", [(), STALE], ids=["fresh", "stale"])
switches = pytest.mark.parametrize("shows", SWITCHES, ids=lambda shows: "+".join(sorted(s.value for s in shows)) or "-")


def offline(record: Record, *, stale: Iterable[str] = (), shows: Iterable[Shows] = (), **more: Any) -> Offline:
    return Offline(record, microseconds(SEEN), stale=bool(stale), shows=shows, **more)


def added(shows: Iterable[Shows]) -> list[str]:
    return [field for switch in shows for field in ADDED[switch]]


@pytest.mark.parametrize("words", ["", "dates", "dates,official_number,agency,service"])
def test_what_is_shown_besides_is_set_in_words_that_are_known(words: str) -> None:
    known = settings.read(LookupSettings, ENVIRON | {"HOSO24_ANONYMOUS_SHOWS": words})
    assert known.anonymous_shows == tuple(filter(None, words.split(",")))
    with pytest.raises(settings.SettingsError, match="unknown name"):
        settings.read(LookupSettings, ENVIRON | {"HOSO24_ANONYMOUS_SHOWS": f"{words},name".strip(",")})


@dossiers
@ages
@switches
async def test_anyone_sees_exactly_this(
    record: Record, known: Mapping[str, Any], marked: tuple[str, ...], shows: frozenset[Shows]
) -> None:
    lookup = offline(record, stale=marked, shows=shows)
    expected = only((*ANYONE, *added(shows), *marked), known)
    assert await lookup.view(holder=False) == await lookup.batch(holder=False) == expected


@pytest.mark.parametrize("status", Status)
async def test_each_status_goes_by_its_own_name_and_figures(status: Status) -> None:
    passed = [step.status for step in RECORD.timeline]
    of_status = {"status": status.slug, "status_number": status, "final": status.final}
    of_status["completion"] = completion(status, True, passed)
    lookup = offline(msgspec.structs.replace(RECORD, status=status.value))
    assert await lookup.view(holder=False) == only(ANYONE, {**KNOWN, **of_status})
    assert await lookup.view(holder=True) == only(HOLDER, {**KNOWN, **of_status})


@dossiers
@ages
@pytest.mark.parametrize("shows", [frozenset(), frozenset(Shows)], ids=["no switch", "every switch"])
async def test_holder_sees_exactly_this(
    record: Record, known: Mapping[str, Any], marked: tuple[str, ...], shows: frozenset[Shows]
) -> None:
    lookup = offline(record, stale=marked, shows=shows)
    assert await lookup.view(holder=True) == await lookup.batch(holder=True) == only((*HOLDER, *marked), known)


@dossiers
@switches
def test_answer_that_is_made_once_and_kept_holds_exactly_this(
    record: Record, known: Mapping[str, Any], shows: frozenset[Shows]
) -> None:
    """The one of the early way, which is kept beside the copy in memory."""
    assert json.loads(offline(record, shows=shows).answers.anonymous_json(pack(record))) == only(
        (*ANYONE, *added(shows)), known
    )


@ages
@pytest.mark.parametrize("service", [SENSITIVE, "S.999"], ids=["sensitive", "unknown"])
async def test_sensitive_service_is_in_no_view_for_anyone_whatever_is_switched_on(
    service: str, marked: tuple[str, ...]
) -> None:
    record = msgspec.structs.replace(RECORD, service=service)
    lookup = offline(record, stale=marked, shows=Shows)
    fields = (*ANYONE, *added(set(Shows) - {Shows.SERVICE}), *marked)
    assert await lookup.view(holder=False) == await lookup.batch(holder=False) == only(fields, KNOWN)
    assert json.loads(lookup.answers.anonymous_json(pack(record))) == only(set(fields) - set(marked), KNOWN)
    named = msgspec.structs.asdict(CATALOGUE.service_view(service))
    assert await lookup.view(holder=True) == only((*HOLDER, *marked), {**KNOWN, "service": named})


@ages
async def test_before_the_catalogue_was_read_nothing_is_harmless_and_codes_stand_alone(marked: tuple[str, ...]) -> None:
    lookup = offline(RECORD, stale=marked, shows=Shows, known=Catalogue())
    nameless = {"code": "G99.01.01", "name": None, "name_en": None}
    anyone = only((*ANYONE, *added(set(Shows) - {Shows.SERVICE}), *marked), {**KNOWN, "agency": nameless})
    assert await lookup.view(holder=False) == anyone


@ages
async def test_official_number_shows_the_same(marked: tuple[str, ...]) -> None:
    lookup = offline(RECORD, stale=marked)
    response = await lookup.ask("/api/v1/dossiers/04321-2026-99901")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == only((*ANYONE, *marked), KNOWN)
    assert response.headers["Link"] == f'</api/v1/dossiers/{RECORD.code}>; rel="canonical"'


@ages
async def test_of_all_switches_only_the_due_date_is_on_a_page(marked: tuple[str, ...]) -> None:
    record = msgspec.structs.replace(RECORD, status=9)
    for lang, holder in itertools.product(("vi", "en"), (False, True)):
        plain = await offline(record, stale=marked).page(lang, holder=holder)
        shows = set(Shows) - {Shows.DUE}
        assert await offline(record, stale=marked, shows=shows).page(lang, holder=holder) == plain
        with_due = await offline(record, stale=marked, shows={Shows.DUE}).page(lang, holder=holder)
        assert (with_due == plain) is holder


@pytest.mark.parametrize(
    ("due_at", "told"),
    [
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), '<time datetime="2026-11-21">'),
        (datetime(2026, 11, 30, 17, 3, tzinfo=UTC), '<time datetime="2026-12-01">'),
    ],
)
async def test_due_date_for_anyone_is_a_day_and_only_where_it_is_switched_on(due_at: datetime, told: str) -> None:
    record = msgspec.structs.replace(RECORD, status=4, finished_at=None, due_at=due_at)
    for lang in ("vi", "en"):
        assert told in await offline(record, shows={Shows.DUE}).page(lang, holder=False)
        closed = await offline(record).page(lang, holder=False)
        assert re.findall(r'<time[^>]*datetime="([^"]+)', closed) == ["2026-11-23T00:04+07:00"]  # as of
        assert 'class="left' not in closed
    holder = await offline(record).page("vi", holder=True)
    assert f"{due_at.astimezone(VIETNAM):%H:%M ngày %d/%m/%Y}" in holder


@pytest.mark.parametrize(
    ("shows", "name", "names"),
    [
        (set(), "json", False),
        ({Shows.DUE, Shows.DATES}, "json+dates+due", False),
        ({Shows.AGENCY}, "json+agency", True),
        ({Shows.SERVICE, Shows.DUE}, "json+due+service", True),
    ],
)
def test_view_that_shows_names_has_another_name_when_they_change(shows: set[Shows], name: str, names: bool) -> None:
    known = [CATALOGUE]
    answers = Answers(lambda: known[0], frozenset(shows), "https://tra-cuu.example")
    assert answers.anonymous == (f"{name}.{CATALOGUE.revision}" if names else name)
    known[0] = Catalogue()
    assert answers.anonymous == (f"{name}.{Catalogue().revision}" if names else name)
