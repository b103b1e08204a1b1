"""Which agencies may read, change and take over a dossier."""

from datetime import date
from itertools import product

import pytest

from intake.refusals import TargetNotAllowed
from intake.rules.scope import covers, may_change, may_read, require_target, side_of
from lookup.catalogue import Agency, Catalogue, Part, Service
from lookup.status import Status

BEFORE, TODAY = date(2025, 6, 30), date(2026, 11, 30)
ENDED = date(2025, 7, 1)


def agency(code: str, parent: str | None, **more: object) -> Agency:
    return Agency(code, parent, code, code, date(2010, 1, 1), **more)  # type: ignore[arg-type]


CATALOGUE = Catalogue(
    {
        each.code: each
        for each in (
            agency("root", None),
            agency("p1", "root"),
            agency("p2", "root"),
            agency("c1", "p1"),
            agency("c2", "p2"),
            agency("d", "p1", valid_to=ENDED, successor="c2"),  # a district office that a commune's took over
            agency("p0", "root", valid_to=ENDED, successor="p2"),
            agency("c0", "p0"),
            agency("gone", "p1", valid_to=ENDED),
            agency("x", None),
            agency("y", "x"),
        )
    }
)
ROUTED = Service("S", "S", "S", "F", False, (), route=(Part("Thẩm định", 24, "y"), Part("Trả kết quả", 8)))


@pytest.mark.parametrize(
    ("of", "day", "side"),
    [
        ("c1", TODAY, {"c1", "p1", "root"}),
        ("d", BEFORE, {"d", "p1", "root"}),
        ("d", TODAY, {"d", "p1", "root", "c2", "p2"}),
        ("c0", BEFORE, {"c0", "p0", "root"}),
        ("c0", TODAY, {"c0", "p0", "root", "p2"}),
        ("gone", TODAY, {"gone", "p1", "root"}),
        ("unknown", TODAY, {"unknown"}),
    ],
)
def test_side_of_an_agency_has_all_above_it_and_the_successors(of: str, day: date, side: set[str]) -> None:
    assert side_of(CATALOGUE, of, day) == side


def test_side_of_agencies_that_follow_each_other_ends() -> None:
    agencies = [agency("a", "b", valid_to=ENDED, successor="b"), agency("b", "a", valid_to=ENDED, successor="a")]
    assert side_of(Catalogue({each.code: each for each in agencies}), "a", TODAY) == {"a", "b"}


def test_each_party_and_all_above_it_read_and_nobody_else() -> None:
    parties = ("c1", "d", "y")  # origin, holder, a task's
    readers = {
        scope for scope in CATALOGUE.agencies if may_read(CATALOGUE, scope, TODAY, parties, submitted_here=False)
    }
    assert readers == {"c1", "p1", "root", "d", "c2", "p2", "y", "x"}
    assert not may_read(CATALOGUE, "p2", BEFORE, parties, submitted_here=False)
    assert may_read(CATALOGUE, "gone", TODAY, parties, submitted_here=True)


@pytest.mark.parametrize("what", [*Status, "number_bound", "corrected", "due_changed", "key_reissued"])
def test_holder_moves_and_the_origin_does_what_is_its_work(what: Status | str) -> None:
    movers = {scope for scope in CATALOGUE.agencies if may_change(CATALOGUE, scope, TODAY, "c2", "c1", what)}
    of_the_origin = what in {5, 7, 10, "corrected", "due_changed", "key_reissued"}
    assert movers == {"c2", "p2", "root"} | ({"c1", "p1"} if of_the_origin else set())


def test_successor_of_an_ended_origin_hands_the_result_over() -> None:
    for day, allowed in ((BEFORE, False), (TODAY, True)):
        assert may_change(CATALOGUE, "c2", day, "p1", "d", Status.RETURNED) is allowed
        assert not may_change(CATALOGUE, "c2", day, "p1", "d", Status.PROCESSING)


LEVEL = {"root": 0, "p1": 1, "p2": 1, "p0": 1, "c1": 2, "c2": 2, "c0": 2, "d": 2, "gone": 2, "x": 0, "y": 1}


@pytest.mark.parametrize(("holder", "target"), list(product(LEVEL, [*LEVEL, "unknown"])))
@pytest.mark.parametrize("service", [None, ROUTED], ids=["no service", "routed"])
def test_targets_are_of_the_same_or_a_higher_level_or_named_by_the_route(
    holder: str, target: str, service: Service | None
) -> None:
    valid = target not in {"d", "p0", "gone", "unknown"}
    same_root = (holder in {"x", "y"}) == (target in {"x", "y"})
    near = same_root and LEVEL.get(target, 9) <= LEVEL[holder]
    if valid and (near or (service is ROUTED and target == "y")):
        require_target(CATALOGUE, holder, target, TODAY, service)
    else:
        with pytest.raises(TargetNotAllowed, match=target):
            require_target(CATALOGUE, holder, target, TODAY, service)


def test_what_an_ended_agency_holds_goes_to_its_successor_of_any_level() -> None:
    lower = agency("old", "root", valid_to=ENDED, successor="c2")
    catalogue = Catalogue({**CATALOGUE.agencies, "old": lower})
    require_target(catalogue, "old", "c2", TODAY, None)
    with pytest.raises(TargetNotAllowed):
        require_target(catalogue, "old", "c1", TODAY, None)
    with pytest.raises(TargetNotAllowed):
        require_target(catalogue, "old", "c2", BEFORE, None)


# -- the sandbox -------------------------------------------------------------------------------------------------

WORLDS = Catalogue(
    {
        each.code: each
        for each in (
            agency("real", None),
            agency("office", "real"),
            agency("trial", None, sandbox=True),
            agency("desk", "trial", sandbox=True),
            agency("stray", "real", sandbox=True),  # what no catalogue should say
            agency("under", "stray"),
            agency("over", "trial"),
            agency("old", "real", valid_to=ENDED, successor="desk"),
        )
    }
)


def test_no_rule_leads_from_one_world_into_the_other_whatever_the_tree_says() -> None:
    sides = {code: side_of(WORLDS, code, TODAY) for code in WORLDS.agencies}
    assert sides == {
        "real": {"real"},
        "office": {"office", "real"},
        "trial": {"trial"},
        "desk": {"desk", "trial"},
        "stray": {"stray"},
        "under": {"under"},
        "over": {"over"},
        "old": {"old", "real"},
    }
    for scope, of in product(WORLDS.agencies, repeat=2):
        allowed = sandboxed(scope) is sandboxed(of)
        assert allowed or not covers(WORLDS, scope, of)
        assert allowed or not may_read(WORLDS, scope, TODAY, (of, of), submitted_here=True)
        assert allowed or not any(may_change(WORLDS, scope, TODAY, of, of, what) for what in Status)
    assert covers(WORLDS, "trial", "desk")
    assert covers(WORLDS, "real", "office")
    assert may_read(WORLDS, "desk", TODAY, ("trial",), submitted_here=True)


def sandboxed(code: str) -> bool:
    return WORLDS.agencies[code].sandbox
