"""situations.toml: the records, and what their pages have to say. The file's own head explains its form."""

import asyncio
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import msgspec

from lookup import clock
from lookup.catalogue import Catalogue, Service
from lookup.dossier import Pause, Record, Shows, Step
from lookup.status import Status
from tests.lookup.offline import CATALOGUE, Offline

LANGUAGES = ("vi", "en")
VIEWERS = ("anyone", "holder", "installation")
"""Anyone, the holder of the lookup key, and anyone where the installation shows due dates to all."""
AGES = ("fresh", "stale")
MARKS = frozenset({*LANGUAGES, *VIEWERS, *AGES})
DEFAULTS = frozenset({"is", "like", "status", "seen", "record", "policy", "asked_as"})
"""What a situation has besides the values of its page."""

_CONDITION = re.compile(r"([a-z_]+)\? ")
TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("situations.toml").read_text("utf-8"))


class Reading(NamedTuple):
    """Who reads the page, in which language, and how old what it says is."""

    lang: str
    viewer: str
    age: str


READINGS = tuple(Reading(lang, viewer, age) for lang in LANGUAGES for viewer in VIEWERS for age in AGES)


class Situation:
    """One row of the table."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.name: str = row["is"]
        rows = [TABLE["usual"], *_likes(row)]
        self._status: str = _last(rows, "status")
        self.seen: datetime = _last(rows, "seen")
        self._policy: str | None = _last([{"policy": None}, *rows], "policy")
        self.asked_as: str | None = _last([{"asked_as": None}, *rows], "asked_as")
        self._layers = [TABLE["usual"], TABLE["status"][self._status], *rows[1:]]
        self.record = self._record([each["record"] for each in rows if "record" in each])

    @property
    def status(self) -> Status:
        return Status.from_slug(self._status)

    def lookup(self, age: str, viewer: str = "anyone") -> Offline:
        """A lookup that knows this dossier, as of the moment it was seen."""
        shows = {Shows.DUE} if viewer == "installation" else ()
        known = CATALOGUE if self._policy is None else Catalogue(CATALOGUE.agencies, _ticking(self._policy))
        return Offline(self.record, clock.microseconds(self.seen), stale=age == "stale", shows=shows, known=known)

    @cached_property
    def html(self) -> dict[Reading, str]:
        """All twelve pages as they are sent."""
        return asyncio.run(self._html())

    async def _html(self) -> dict[Reading, str]:
        # A lookup answers the holder as it answers anyone, in both languages: four of them make the twelve pages.
        shown = {(age, viewer): self.lookup(age, viewer) for age in AGES for viewer in ("anyone", "installation")}
        return {
            reading: await shown[reading.age, "anyone" if reading.viewer == "holder" else reading.viewer].page(
                reading.lang, holder=reading.viewer == "holder", asked_as=self.asked_as
            )
            for reading in READINGS
        }

    def values(self, reading: Reading) -> dict[str, str | list[str]]:
        """What `$word` stands for on that page."""
        names = {slug: words[reading.lang]["name"] for slug, words in TABLE["status"].items()}
        general, own = [_merged(layers, reading) for layers in (self._layers[:2], self._layers[2:])]
        case = _collected(TABLE["case"][(general | own)["case"]], reading)
        found = names | TABLE["words"][reading.lang] | general | case | own
        del found["case"]
        if reading.viewer == "holder":
            found |= {"holder": True}
        else:
            found |= {"keyless": True}
        found |= {"steps": self._steps(found, reading.lang), "prominent" if "prominent" in found else "footer": True}
        found |= _date(found, reading) | {"unasked": "ask" not in found}
        return {word: value for word, value in found.items() if value is not False}

    def page(self, reading: Reading) -> list[str]:
        """The page's lines, as they have to be."""
        values = self.values(reading)
        return [
            _filled(line, values)
            for template in TABLE[reading.lang]["sheet"].splitlines()
            for line in _there(template, values)
        ]

    def _steps(self, values: dict[str, Any], lang: str) -> list[str]:
        """The way of the dossier: a word for how far, and a step."""
        found = []
        for step in values["steps"]:
            how, slug = step.split()
            found.append(Template(TABLE[lang]["step"][how]).substitute(step=f"${slug}"))
        return found

    def _record(self, layers: list[dict[str, Any]]) -> Record:
        known: dict[str, Any] = {}
        for layer in layers:
            known |= layer
        steps, pauses = known.pop("timeline", []), known.pop("pauses", [])
        fields = {name: _utc(value) for name, value in known.items() if value is not False}
        timeline = tuple(Step(**{name: _utc(value) for name, value in step.items()}) for step in steps)
        fields["pauses"] = tuple(
            Pause(**{"until": None, **{name: _utc(value) for name, value in pause.items()}}) for pause in pauses
        )
        return Record(version=max(1, len(timeline)), status=self.status.value, timeline=timeline, **fields)


@cache
def situations() -> tuple[Situation, ...]:
    """All of them. KeyError where one is like another that there is not."""
    return tuple(Situation(row) for row in TABLE["situation"])


def _date(values: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """The due date as this reader sees it: not, as a day, or with its hour; and what stands beside it."""
    date = values.get("date")
    if date is None and reading.viewer != "anyone" and values.get("day"):
        date = ("$when" if reading.viewer == "holder" else "$day") + "$tag"
    n_days = values.get("n_days", "$n days")
    ahead = bool(date) and (values.get("tag") in ("$left", "$tomorrow") or date == "$today")
    calendar = ahead and reading.viewer == "holder" and reading.age == "fresh"
    return {
        "calendar": calendar,
        "date": date or False,
        "tag": values.get("tag") or "",
        "n_days": n_days,
        "stale": reading.age == "stale",
    }


def _filled(line: str, values: dict[str, Any]) -> str:
    """The line with its values, which may hold others."""
    while "$" in line:
        line = Template(line).substitute(values)
    return line


def _ticking(policy: str) -> dict[str, Service]:
    """The services, with this policy for every pause."""
    return {
        code: msgspec.structs.replace(service, clock_after_supplement=policy, clock_after_suspension=policy)
        for code, service in CATALOGUE.services.items()
    }


def _likes(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row, after those it is like."""
    if "like" not in row:
        return [row]
    (other,) = (each for each in TABLE["situation"] if each["is"] == row["like"])
    return [*_likes(other), row]


def _last(rows: list[dict[str, Any]], name: str) -> Any:
    return next(row[name] for row in reversed(rows) if name in row)


def _merged(layers: list[dict[str, Any]], reading: Reading) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in layers:
        found |= _collected(layer, reading)
    return found


def _collected(layer: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """The layer's values for that page, the more special ones last."""
    found = {name: value for name, value in layer.items() if name not in DEFAULTS | MARKS}
    for mark in reading:
        if mark in layer:
            found |= _collected(layer[mark], reading)
    return found


def _there(template: str, values: dict[str, Any]) -> Iterator[str]:
    """The template's lines on this page: none where its condition does not hold, several for a list."""
    while condition := _CONDITION.match(template):
        if condition[1] not in values:
            return
        template = template[condition.end() :]
    if template.startswith("*"):
        yield from values.get(template[1:], ())
    else:
        yield template


def words_of_sheet(lang: str) -> set[str]:
    """Every word a sheet has a use for."""
    found = re.findall(r"\$([a-z_]+)|^\*([a-z_]+)|\b([a-z_]+)\? ", TABLE[lang]["sheet"], re.MULTILINE)
    return {word for words in found for word in words} - {""}


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
