"""The endpoints of both services: the routes are these, and a document can be made of their declarations."""

import inspect
import re
import typing
from typing import Any

import msgspec
import pytest

from intake.api import IntakeApi
from intake.clients import ACTIONS
from intake.one_stop import OneStopApi
from intake.partners.client import ClientApi
from intake.partners.feed import FeedApi
from intake.partners.letters import Letters
from intake.partners.sync import Sync
from lookup.web import api, catalogue_pages, developers, figure_pages, service_pages
from lookup.web.answers import PATH
from lookup.web.catalogue_pages import CatalogueBoard
from lookup.web.figure_pages import FigureBoard
from lookup.web.service_pages import ServiceBoard
from ops.errors import OurOwnDelay
from ops.http.developer_pages import PROBLEMS, DeveloperPages
from ops.http.endpoints import ANY_CLIENT, GENERAL, OF_BODIES, OF_QUERIES, Endpoint, Reply
from ops.http.openapi import About, shapes_within

_NOTHING: Any = None
_ANYTHING: Any = object()
_BOARD = ServiceBoard.__new__(ServiceBoard)

_OWN: dict[str, list[Endpoint]] = {
    "lookup": [
        *api.endpoints(_NOTHING, _NOTHING),
        *service_pages.endpoints(_BOARD),
        *catalogue_pages.endpoints(CatalogueBoard(_NOTHING, _NOTHING, _NOTHING)),
        *figure_pages.endpoints(FigureBoard(_NOTHING, _NOTHING, _NOTHING, _NOTHING)),
    ],
    "intake": [
        *IntakeApi(_NOTHING, _NOTHING, _NOTHING, "").endpoints(),
        *OneStopApi(_NOTHING, _NOTHING).endpoints(),
        *ClientApi(_NOTHING, _NOTHING, _NOTHING).endpoints(),
        *FeedApi(_NOTHING, _NOTHING, _NOTHING, "").endpoints(),
        *Letters(_NOTHING, _ANYTHING).endpoints(),
        *Sync.__new__(Sync).endpoints(),
    ],
}
SERVICES = {name: DeveloperPages(About(title=name, says=""), each).endpoints for name, each in _OWN.items()}

ENDS = ("done", "refuse", "cancel", "ask")
ROUTES = {
    "lookup": [
        ("GET", r"/api/v1/dossiers/{code:[\s\S]+}", None),
        ("POST", "/api/v1/lookups", None),
        ("GET", "/api/v1/statuses", None),
        ("GET", "/api/v1/service-status", None),
        ("GET", "/api/v1/services", None),
        ("GET", "/api/v1/services/{service:.+}", None),
        ("GET", "/api/v1/agencies", None),
        ("GET", "/api/v1/statistics", None),
        ("GET", "/api/v1/problems", None),
    ],
    "intake": [
        ("POST", "/api/v1/dossiers", "receive"),
        ("GET", "/api/v1/dossiers/{code}", "read"),
        ("POST", "/api/v1/dossiers/{code}/transitions", "move"),
        ("PUT", "/api/v1/dossiers/{code}/official-number", "bind"),
        ("POST", "/api/v1/dossiers/{code}/corrections", "correct"),
        ("POST", "/api/v1/dossiers/{code}/key", "correct"),
        ("POST", "/api/v1/dossiers/{code}/tasks", "move"),
        *(("POST", rf"/api/v1/dossiers/{{code}}/tasks/{{number:\d+}}/{end}", "move") for end in ENDS),
        ("POST", "/api/v1/dossiers/{code}/re-appointments", "move"),
        ("POST", "/api/v1/dossiers/{code}/lead", "correct"),
        ("PUT", "/api/v1/dossiers/{code}/consents/{channel:mail|gateway}", "receive"),
        ("DELETE", "/api/v1/dossiers/{code}/consents/{channel:mail|gateway}", "receive"),
        ("GET", "/api/v1/dossiers/{code}/events", "read"),
        ("GET", "/api/v1/tasks", "read"),
        ("GET", "/api/v1/client", ANY_CLIENT),
        ("GET", "/api/v1/changes", "follow"),
        ("GET", "/api/v1/dead-letters", "sync"),
        ("POST", "/api/v1/dead-letters/{n}/replay", "sync"),
        ("DELETE", "/api/v1/dead-letters/{n}", "sync"),
        ("POST", "/api/v1/sync", "sync"),
        ("GET", "/api/v1/problems", None),
    ],
}
"""Method, path and required action."""

ALL = [each for endpoints in SERVICES.values() for each in endpoints]
every_endpoint = pytest.mark.parametrize("endpoint", ALL, ids=lambda each: f"{each.method} {each.path}")


@pytest.mark.parametrize("service", SERVICES)
def test_routes_are_these(service: str) -> None:
    assert [(each.method, each.path, each.action) for each in SERVICES[service]] == ROUTES[service]


def test_every_endpoint_of_the_intake_is_for_any_client_or_needs_an_action_that_one_can_be_given() -> None:
    assert {each.action for each in SERVICES["intake"] if each.path != PROBLEMS} <= {*ACTIONS, ANY_CLIENT}


@every_endpoint
def test_declaration_says_what_the_handler_takes_and_returns(endpoint: Endpoint) -> None:
    hints = typing.get_type_hints(endpoint.handler)
    returned = hints.pop("return")
    _, *content = [hints[name] for name in inspect.signature(endpoint.handler).parameters]
    taken = None if endpoint.lines else endpoint.takes
    assert content == [each for each in (endpoint.asks, taken) if each is not None]
    if typing.get_origin(returned) is Reply:
        (returned,) = typing.get_args(returned)
    shapes = set(typing.get_args(returned)) or {returned}
    made_before = isinstance(returned, type) and not issubclass(returned, msgspec.Struct)
    assert made_before or set(endpoint.shapes) <= shapes


@every_endpoint
def test_parameters_of_the_path_are_declared_and_no_name_twice(endpoint: Endpoint) -> None:
    in_path = [each.name for each in endpoint.parameters if each.place == "path"]
    assert in_path == re.findall(r"{(\w+)", endpoint.path)
    names = [(each.place, each.name) for each in endpoint.parameters]
    names += [("query", name) for name in (endpoint.asks.__struct_encode_fields__ if endpoint.asks else ())]
    assert len(set(names)) == len(names)


@every_endpoint
def test_refusals_are_declared_once_and_general_ones_in_one_place(endpoint: Endpoint) -> None:
    elsewhere = {*GENERAL, *(OF_BODIES if endpoint.takes else ()), *(OF_QUERIES if endpoint.asks else ())}
    assert len(set(endpoint.refuses) - elsewhere) == len(endpoint.refuses)
    assert endpoint.all_refusals == {*endpoint.refuses, *elsewhere}
    assert inspect.getdoc(endpoint.handler)


@pytest.mark.parametrize("service", SERVICES)
def test_types_can_be_described_and_each_says_what_it_is(service: str) -> None:
    shapes = shapes_within(each for of in SERVICES[service] for each in (*of.shapes, of.takes, of.asks))
    names = [shape.__name__ for shape in shapes]
    assert len(names) == len(set(names)), sorted(names)
    for shape in shapes:
        assert shape.__doc__, shape
        assert not shape.__doc__.startswith(f"{shape.__name__}("), f"{shape.__name__} has no docstring"


def test_page_for_developers_lists_what_the_lookups_endpoints_refuse_with() -> None:
    declared = {refusal for each in SERVICES["lookup"] for refusal in each.all_refusals}
    assert set(developers.ERRORS) == declared - {OurOwnDelay}  # the same code as Unavailable


def test_what_the_early_way_answers_does_not_retire() -> None:
    """It sends no such headers: an endpoint that retires has to leave it first (lookup/web/hotpath.py)."""
    (dossier,) = (each for each in SERVICES["lookup"] if each.path.startswith(PATH))
    assert dossier.retires is None
