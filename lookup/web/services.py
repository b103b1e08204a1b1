"""What a citizen or a portal is told of a service, from the catalogue: as words of a page, as JSON, as linked data.

The catalogue is the agency's text. It leaves here as data; a link leaves only if it is an https address.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import quote

import msgspec

from lookup.catalogue import Agency, Catalogue, Named, Paper, Papers, Part, Service, TimeLimit, in_force
from lookup.web.layout import SERVICES
from lookup.web.phrases import PHRASES
from lookup.web.phrases.catalogue import day_phrase, limit_phrase
from lookup.web.site import Site

_WEB = re.compile(r"https://[^\s/@<>\"'\\^`{|}]+(?:/[^\s<>\"'\\^`{|}]*)?")
"""Stricter than the catalogue's own rule: no character that a link would have to escape, no name before the host."""
_IN_A_SCRIPT = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def address(service: Service, lang: str) -> str:
    """The path of a service's page."""
    return f"{SERVICES[lang]}/{quote(service.code, safe='')}"


def has_ended(each: Agency | Service | TimeLimit, day: date) -> bool:
    """Whether this day is at or after the first on which it is no longer in force."""
    return each.valid_to is not None and each.valid_to <= day


def apply_link(service: Service) -> str | None:
    """The agency's own page for applying; None unless it is an https address."""
    return service.apply_url if service.apply_url and _WEB.fullmatch(service.apply_url) else None


def field_name(code: str, lang: str) -> str:
    """The name of a field of services; its code if it has none here."""
    return PHRASES[lang].get(f"field.{code}", code)


# -- words of a page ---------------------------------------------------------------------------------------


def brief(service: Service, day: date, lang: str) -> dict[str, Any]:
    """A service in the list: its name, address, code, usual time limits, and from when, if that is to come."""
    return {
        "name": _in(lang, service.name_vi, service.name_en),
        "code": service.code,
        "url": address(service, lang),
        "limits": _limits_of_the_usual_case(service, day, lang),
        "since": day_phrase(service.valid_from, lang) if service.valid_from > day else None,
    }


def words(service: Service, catalogue: Catalogue, day: date, lang: str) -> dict[str, Any]:
    """Everything a service's page says of it; what the catalogue does not state is None or empty.

    A text is a pair: the text, and whether it is Vietnamese on an English page.
    """
    phrases = PHRASES[lang]
    route = service.route or ()
    papers = service.papers.list if service.papers else ()
    return {
        "name": _in(lang, service.name_vi, service.name_en),
        "other_name": _in("en" if lang == "vi" else "vi", service.name_vi, service.name_en),
        "code": service.code,
        "field": field_name(service.field_code, lang),
        "agencies": [_agency_name(code, catalogue, lang) for code in _agencies(route)],
        "channels": [phrases[f"channel.{each}"] for each in service.channels or ()],
        "online": phrases[f"online.{service.online}"] if service.online else None,
        "fee": _text(lang, service.fee_vi, service.fee_en),
        "result": _text(lang, service.result_vi, service.result_en),
        "validity": _validity(service, lang),
        "times": list(_times(service, day, lang)),
        "sets": service.papers.sets if service.papers else None,
        "papers": [_paper(each, lang) for each in papers],
        "legal_basis": service.legal_basis or (),
        "route": [_part(each, catalogue, lang) for each in route] if len(_agencies(route)) > 1 else [],
        "apply_url": apply_link(service),
        "at_a_desk": not service.channels or not {"direct", "postal"}.isdisjoint(service.channels),
        "sample": service.sample,
    }


def _limits_of_the_usual_case(service: Service, day: date, lang: str) -> list[str]:
    """The limit alone where there is one, else each after the way of applying that it is for."""
    rows = [row for row in _times(service, day, lang) if row["is_default"]]
    return [row["limit"] if len(rows) == 1 else f"{row['channel']} {row['limit']}" for row in rows]


def _times(service: Service, day: date, lang: str) -> Iterator[dict[str, Any]]:
    """The time limits that are in force or to come, the usual case first."""
    phrases = PHRASES[lang]
    limits = [each for each in service.times if not has_ended(each, day)]
    for limit in sorted(limits, key=_order):
        case = phrases.get(f"service_case.{limit.service_case}")
        of_case = [each for each in limits if each.service_case == limit.service_case]
        other = limit.channel == "any" and any(each.channel != "any" for each in of_case)
        yield {
            "is_default": limit.service_case == "default" and in_force(limit, day),
            "case": case or limit.service_case,
            "case_is_vietnamese": case is None and lang == "en",
            "channel": phrases["channel.others" if other else f"channel.{limit.channel}"],
            "limit": limit_phrase(limit.hours, limit.calendar_days, lang),
            "since": day_phrase(limit.valid_from, lang) if limit.valid_from > day else None,
            "until": day_phrase(limit.valid_to, lang) if limit.valid_to else None,
            "source": limit.source,
        }


def _order(limit: TimeLimit) -> tuple[bool, str, bool, str, date]:
    """The usual case first; in each case what holds for any other way of applying comes last."""
    case, channel = limit.service_case, limit.channel
    return case != "default", case, channel == "any", channel, limit.valid_from


def _validity(service: Service, lang: str) -> str:
    start = day_phrase(service.valid_from, lang)
    if service.valid_to is None:
        return PHRASES[lang]["service_page.in_force"].format(date=start)
    return PHRASES[lang]["service_page.in_force_until"].format(date=start, end=day_phrase(service.valid_to, lang))


def _agencies(route: tuple[Part, ...]) -> list[str]:
    """The agencies that a route names, each once, in its order."""
    return list(dict.fromkeys(part.agency for part in route if part.agency))


def _agency_name(code: str, catalogue: Catalogue, lang: str) -> str:
    known = catalogue.agencies.get(code)
    return _in(lang, known.name_vi, known.name_en) if known else code


def _part(part: Part, catalogue: Catalogue, lang: str) -> dict[str, Any]:
    agency = _agency_name(part.agency, catalogue, lang) if part.agency else None
    return {"agency": agency, "work": part.work, "limit": limit_phrase(part.hours, None, lang)}


def _paper(paper: Paper, lang: str) -> dict[str, Any]:
    text, is_vietnamese = (paper.en, False) if lang == "en" and paper.en else (paper.vi, lang == "en")
    return {"text": text, "is_vietnamese": is_vietnamese, "copies": paper.copies}


def _in(lang: str, vietnamese: str, english: str) -> str:
    return vietnamese if lang == "vi" else english


def _text(lang: str, vietnamese: str | None, english: str | None) -> tuple[str, bool] | None:
    """The text in this language, or else the Vietnamese one, with the mark that it is."""
    if lang == "en" and english:
        return english, False
    return (vietnamese, lang == "en") if vietnamese else None


# -- linked data -------------------------------------------------------------------------------------------


def linked_data(service: Service, catalogue: Catalogue, site: Site, lang: str) -> str:
    """The service as schema.org's GovernmentService, in JSON that can stand in a script element whatever it says."""
    phrases = PHRASES[lang]
    roots = [each.code for each in catalogue.agencies.values() if not each.parent and not each.sandbox]
    # Of several trees the catalogue does not say which one offers a service.
    codes = _agencies(service.route or ()) or (roots if len(roots) == 1 else [])
    channels: list[dict[str, Any]] = [
        {"@type": "ServiceChannel", "name": phrases[f"channel.{each}"]} for each in service.channels or ()
    ]
    if link := apply_link(service):
        channels = [each for each in channels if each["name"] != phrases["channel.online"]]
        channels.append({"@type": "ServiceChannel", "name": phrases["channel.online"], "serviceUrl": link})
    fee, result = _text(lang, service.fee_vi, service.fee_en), _text(lang, service.result_vi, service.result_en)
    document: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "GovernmentService",
        "name": _in(lang, service.name_vi, service.name_en),
        "identifier": service.code,
        "serviceType": field_name(service.field_code, lang),
        "url": site.public_url + address(service, lang),
        "inLanguage": lang,
    }
    if codes:
        names = [_agency_name(code, catalogue, lang) for code in codes]
        document["provider"] = [{"@type": "GovernmentOrganization", "name": name} for name in names]
    if channels:
        document["availableChannel"] = channels
    if fee:
        document["offers"] = {"@type": "Offer", "description": fee[0]}
    if result:
        document["serviceOutput"] = {"@type": "Thing", "name": result[0]}
    return msgspec.json.encode(document).decode().translate(_IN_A_SCRIPT)


# -- JSON --------------------------------------------------------------------------------------------------


class ShownLimit(msgspec.Struct, frozen=True):
    """A time limit of a service in one case and channel. Exactly one of `at_once`, `calendar_days` and `working_hours`
    is set; eight working hours are a working day."""

    case: str
    channel: str
    at_once: bool
    calendar_days: int | None
    working_hours: int | None
    text: str
    text_en: str
    valid_from: date
    valid_to: date | None
    source: str | None


class ShownService(msgspec.Struct, frozen=True):
    """A service in the list of all: names in both languages, time limits, validity, addresses.

    `valid_to` is the first day on which it is no longer in force.
    """

    code: str
    name: str
    name_en: str
    field: str
    field_name: str
    field_name_en: str
    in_force: bool
    valid_from: date
    valid_to: date | None
    time_limits: list[ShownLimit]
    channels: tuple[str, ...] | None
    online: str | None
    apply_url: str | None
    page: str
    page_en: str
    sample: bool


class ShownServices(msgspec.Struct, frozen=True):
    """Every service, ended ones too. `revision` changes with the catalogue; `sample`: it is for trial only."""

    revision: str
    sample: bool
    services: list[ShownService]


class ShownPaper(msgspec.Struct, frozen=True):
    """A document needed; `copies` as the law words it."""

    name: str
    name_en: str
    copies: str | None


class ShownPapers(msgspec.Struct, frozen=True):
    """The documents of one application, and how many sets of them."""

    sets: int
    list: tuple[ShownPaper, ...]


class RoutePart(msgspec.Struct, frozen=True):
    """One part of the work on a dossier, with its share of the time limit; `agency` null: the one that received it."""

    work: str
    working_hours: int
    agency: Named | None


class FullService(ShownService, frozen=True):
    """One service with everything the catalogue states; what it does not state is null."""

    documents: ShownPapers | None
    fee: str | None
    fee_en: str | None
    result: str | None
    result_en: str | None
    legal_basis: tuple[str, ...] | None
    route: list[RoutePart] | None


class ShownAgency(msgspec.Struct, frozen=True):
    """An agency: names in both languages, how to reach it, validity; what the catalogue does not state is null.

    `sandbox`: it takes made-up dossiers only, for developers who try things out.
    """

    code: str
    parent: str | None
    name: str
    name_en: str
    in_force: bool
    valid_from: date
    valid_to: date | None
    successor: str | None
    number: str | None
    hotline: str | None
    email: str | None
    address: str | None
    address_en: str | None
    hours: str | None
    hours_en: str | None
    complaint_url: str | None
    sandbox: bool
    sample: bool


class ShownAgencies(msgspec.Struct, frozen=True):
    """Every agency, ended ones too. `revision` changes with the catalogue; `sample`: it is for trial only."""

    revision: str
    sample: bool
    agencies: list[ShownAgency]


def shown(service: Service, day: date, site: Site) -> ShownService:
    """A service as the list of all has it."""
    return ShownService(
        code=service.code,
        name=service.name_vi,
        name_en=service.name_en,
        field=service.field_code,
        field_name=field_name(service.field_code, "vi"),
        field_name_en=field_name(service.field_code, "en"),
        in_force=in_force(service, day),
        valid_from=service.valid_from,
        valid_to=service.valid_to,
        time_limits=[_shown_limit(each) for each in service.times if not has_ended(each, day)],
        channels=service.channels,
        online=service.online,
        apply_url=apply_link(service),
        page=site.public_url + address(service, "vi"),
        page_en=site.public_url + address(service, "en"),
        sample=service.sample,
    )


def in_full(service: Service, catalogue: Catalogue, day: date, site: Site) -> FullService:
    """A service as its own address has it."""
    papers, route = service.papers, service.route
    return FullService(
        **msgspec.structs.asdict(shown(service, day, site)),
        documents=None if papers is None else _shown_papers(papers),
        fee=service.fee_vi,
        fee_en=service.fee_en,
        result=service.result_vi,
        result_en=service.result_en,
        legal_basis=service.legal_basis,
        route=None if route is None else [_route_part(each, catalogue) for each in route],
    )


def shown_agency(agency: Agency, day: date) -> ShownAgency:
    """An agency as the list of all has it."""
    complaint = agency.complaint_url if agency.complaint_url and _WEB.fullmatch(agency.complaint_url) else None
    return ShownAgency(
        code=agency.code,
        parent=agency.parent,
        name=agency.name_vi,
        name_en=agency.name_en,
        in_force=in_force(agency, day),
        valid_from=agency.valid_from,
        valid_to=agency.valid_to,
        successor=agency.successor,
        number=agency.bhxh_number,
        hotline=agency.hotline,
        email=agency.email,
        address=agency.address_vi,
        address_en=agency.address_en,
        hours=agency.hours_vi,
        hours_en=agency.hours_en,
        complaint_url=complaint,
        sandbox=agency.sandbox,
        sample=agency.sample,
    )


def _shown_papers(papers: Papers) -> ShownPapers:
    return ShownPapers(papers.sets, tuple(ShownPaper(each.vi, each.en, each.copies) for each in papers.list))


def _route_part(part: Part, catalogue: Catalogue) -> RoutePart:
    return RoutePart(part.work, part.hours, catalogue.agency_view(part.agency) if part.agency else None)


def _shown_limit(limit: TimeLimit) -> ShownLimit:
    return ShownLimit(
        case=limit.service_case,
        channel=limit.channel,
        at_once=limit.at_once,
        calendar_days=limit.calendar_days,
        working_hours=limit.hours,
        text=limit_phrase(limit.hours, limit.calendar_days, "vi"),
        text_en=limit_phrase(limit.hours, limit.calendar_days, "en"),
        valid_from=limit.valid_from,
        valid_to=limit.valid_to,
        source=limit.source,
    )
