"""Alerts on a game day: which fault makes which fire, and how rules are made to fit a fault of a minute."""

from typing import Any

import pytest
import yaml

from loadtests.gameday.alerting import Due, compared, table
from loadtests.gameday.faults import FAULTS
from loadtests.system.prometheus import OF_A_CLUSTER, RULES, Firing, hurried
from loadtests.system.replicas import Deployment, Replica

GROUPS = yaml.safe_load(RULES.read_text("utf-8"))["groups"]


def alerts(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_the_table_names_faults_and_alerts_that_there_are() -> None:
    fitting = alerts(hurried(GROUPS, 20)).keys()
    expected = table()
    assert set(expected.fault) <= {fault.name for fault in FAULTS}
    assert expected.left_out.keys() <= fitting
    for fault, each in expected.fault.items():
        assert each.fires.keys() | each.may.keys() <= fitting, fault
        assert not each.fires.keys() & (each.may.keys() | expected.left_out.keys()), fault
    assert "healthy" not in expected.fault


def test_windows_and_waits_are_shorter_by_the_same_factor() -> None:
    rule = {"alert": "A", "expr": "rate(a_total[5m]) / rate(b_total[10m]) > 300", "for": "1m"}
    ((short,),) = [group["rules"] for group in hurried([{"name": "g", "rules": [rule]}], 20)]
    assert (short["expr"], short["for"]) == ("rate(a_total[15000ms]) / rate(b_total[30000ms]) > 300", "3000ms")


def test_alerts_that_need_more_than_a_minute_and_a_half_are_left_out() -> None:
    left_out = alerts(GROUPS).keys() - alerts(hurried(GROUPS, 20)).keys()
    absent = {"SourceAbsent", "WebhooksAbsent", "NoticesAbsent", "DeskAbsent"}
    assert left_out == {"CertificateEnds", "InternalCertificateEnds", "NoticesDying"} | absent
    burns = [
        rule["labels"]["burn"]
        for group in hurried(GROUPS, 20)
        for rule in group["rules"]
        if rule.get("alert") == "LookupFreshnessBurn"
    ]
    assert burns == ["14.4"], "the slow burns look back for longer than a game day's recovery"
    of_a_healthy_hour = alerts(hurried(GROUPS, 1)).keys()
    assert of_a_healthy_hour == alerts(GROUPS).keys() - {OF_A_CLUSTER}, "and all others"


def test_processes_take_the_admin_ports_that_prometheus_knows_in_turn() -> None:
    nothing: Any = None
    lookups = Deployment("lookup", {}, nothing, admin_ports=[1, 2, 3])
    taken = []
    for started in range(4):
        lookups._started = started
        taken.append(lookups.admin_port())
        lookups.replicas = [Replica("lookup", 0, taken[-1], nothing, nothing)]
    assert taken == [1, 2, 3, 1], "not that of one that has just ended"
    lookups.replicas = [Replica("lookup", 0, port, nothing, nothing) for port in (1, 2, 3)]
    assert lookups.admin_port() > 3, "more processes than were expected: one that is free"


@pytest.mark.parametrize(
    ("fired", "kept"),
    [
        ([Firing("RedisAway", 110.0)], True),
        ([Firing("RedisAway", 110.0), Firing("LookupFreshnessBurn", 120.0)], True),
        ([Firing("RedisAway", 131.0)], False),
        ([], False),
        ([Firing("RedisAway", 110.0), Firing("PostgresAway", 111.0)], False),
    ],
)
def test_what_is_due_has_to_fire_in_time_and_nothing_else_may(fired: list[Firing], kept: bool) -> None:
    wanted = Due(fires={"RedisAway": 30.0}, may={"LookupFreshnessBurn": "a slice may just do"})
    assert compared(wanted, fired, began=100.0).kept is kept
