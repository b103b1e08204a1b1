"""Rules, dashboards and runbook agree with each other, with what they are made of, and with the metrics there are."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

import intake.doctor
import intake.metrics
import lookup.metrics  # declares its metrics
import lookup.upkeep.doctor
import ops.observe.metrics  # noqa: F401
from ops.doctor import certificate_checks, postgres_checks, redis_checks
from ops.monitoring import dashboards, rules
from ops.monitoring.__main__ import made, outdated
from ops.monitoring.objectives import alerts, objectives

ROOT = Path(__file__).resolve().parent.parent
RUNBOOKS = ROOT / "docs/runbooks"
HEADINGS = ["What it means", "What a citizen notices", "First look", "Mitigation", "Escalation"]
NO_ALERT = {"error-budget", "restore", "secrets", "books-key-lost"}
"""Pages of the runbook that no alert leads to directly."""

METRIC = re.compile(
    r"\b(?:hoso24|lookup|intake|relay|notary|webhooks|notices|desk|slo)[_:][a-z][a-z0-9_:]*[a-z0-9]\b(?=[\s{\[)\"'`=,]|$)"
)
GROUPS = rules.groups(objectives(), alerts())
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARDS = [dashboards.grafana(each) for each in dashboards.dashboards(objectives())]
PANELS = [panel for each in DASHBOARDS for panel in each["panels"] if panel["type"] != "row"]


OTHERS_SERIES = {
    "barman_cloud_cloudnative_pg_io_last_available_backup_timestamp",  # CloudNativePG's backup plugin
    "certmanager_certificate_expiration_timestamp_seconds",
    "cnpg_pg_stat_archiver_last_archived_time",
    "kube_cronjob_created",
    "kube_cronjob_status_last_successful_time",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_pod_container_status_waiting_reason",
    "kube_pod_status_phase",
    "kube_statefulset_replicas",
    "kube_statefulset_status_replicas_ready",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "probe_ssl_earliest_cert_expiry",  # the black-box exporter
    "probe_success",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
}
"""Series of other programs' metrics, by their documentation. What is not here and not ours is misspelt."""


def names_there_are() -> set[str]:
    """Of every series the service exposes, and of every one that the rules record."""
    exposed = set()
    for metric in prometheus_client.REGISTRY.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
        exposed |= {metric.name + ending for ending in endings.get(metric.type, ("",))}
    return exposed | {rule["record"] for rule in RULES if "record" in rule}


def test_changed_objective_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    path, text = next(iter(made().items()))
    monkeypatch.setattr("ops.monitoring.__main__.made", lambda: {path: text + "#"})
    assert path in outdated()


def expressions() -> list[tuple[str, str]]:
    of_rules = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES]
    return of_rules + [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_expressions_name_series_there_are() -> None:
    there = names_there_are()
    asked = {where: set(METRIC.findall(expr)) - there for where, expr in expressions()}
    found = [f"{where} asks for {unknown}: there is no such series" for where, unknown in asked.items() if unknown]
    assert not found, "\n".join(found)


SELECTOR = re.compile(r"\b([a-z0-9]+(?:[_:][a-z0-9]+)+|ALERTS)(?=[\s{\[),]|$)(?!\s*\()(\{[^}]*\})?")
"""A series, and its matchers if it has any."""
NO_SERIES = {"group_left", "for_each"}


def test_expressions_name_no_series_of_others_that_is_not_known() -> None:
    labels = re.compile(r"(?:by|on|without|ignoring) ?\([^)]*\)|\"[^\"]*\"")
    named = {found[0] for _, expr in expressions() for found in SELECTOR.findall(labels.sub("", expr))}
    assert {name for name in named if not METRIC.fullmatch(name)} - NO_SERIES - {"ALERTS"} == OTHERS_SERIES


def test_panels_show_the_chosen_namespace_and_pods() -> None:
    """Two installations in one Prometheus are not added up."""
    found = [
        f"{panel['title']}: {name}{matchers}"
        for panel in PANELS
        for target in panel["targets"]
        for name, matchers in SELECTOR.findall(re.sub(r"(?:by|on) \([^)]*\)", "", target["expr"]))
        if name not in {*NO_SERIES, "slo:objective"}
        and not matchers.startswith(
            '{namespace=~"$namespace"' + (',pod=~"$pod"' if name in names_there_are() and "slo:" not in name else "")
        )
    ]
    assert not found, "\n".join(found)
    for each in DASHBOARDS:
        variables = [variable["name"] for variable in each["templating"]["list"]]
        assert variables == ["datasource", "namespace", "pod", "runbooks"]


def test_panels_link_to_the_pages_that_name_them() -> None:
    linked = {link["url"] for panel in PANELS for link in panel["links"]}
    assert "${runbooks:raw}EnumerationSuspected.md" in linked
    for url in linked:
        assert (RUNBOOKS / url.removeprefix("${runbooks:raw}")).is_file()


def test_every_metric_is_looked_at_somewhere() -> None:
    """A metric that no rule and no panel shows is never seen."""
    shown = " ".join(expr for _, expr in expressions())
    unseen = {
        metric.name
        for metric in prometheus_client.REGISTRY.collect()
        if metric.name.startswith(("hoso24_", "lookup_", "intake_", "relay_", "webhooks_", "notices_", "desk_"))
        and metric.name not in shown
    }
    assert unseen == set()


def test_every_alert_leads_to_a_page_of_the_runbook() -> None:
    found = []
    for rule in ALERTS:
        name = rule["alert"]
        if rule["labels"]["severity"] not in ("page", "ticket"):
            found.append(f"{name} has severity {rule['labels']['severity']}: nothing routes it")
        if not rule["annotations"]["runbook_url"].endswith(f"/runbooks/{name}.md"):
            found.append(f"{name} leads to {rule['annotations']['runbook_url']}, not to its own page")
        headings = re.findall(r"^##? (.*)$", (RUNBOOKS / f"{name}.md").read_text("utf-8"), re.MULTILINE)
        if headings != [name, *HEADINGS]:
            found.append(f"{name}.md has the headings {headings}, not {[name, *HEADINGS]}")
    assert not found, "\n".join(found)


def test_every_page_of_the_runbook_is_an_alerts_own() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")}
    assert pages - NO_ALERT == {rule["alert"] for rule in ALERTS}


def test_runbook_names_what_there_is() -> None:
    found = []
    there = names_there_are()
    titles = {each["title"].removeprefix("hoso24 · ") for each in DASHBOARDS} | {panel["title"] for panel in PANELS}
    for page in sorted(RUNBOOKS.glob("*.md")):
        text = page.read_text("utf-8")
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        found += [f"{page.name} names {each}: there is no such series" for each in set(METRIC.findall(text)) - there]
        found += [
            f"{page.name} links {link}: there is no such page"
            for link in re.findall(r"\]\(([^)#:]+\.md)\)", text)
            if not (page.parent / link).is_file()
        ]
        found += [
            f"{page.name} names the dashboard or panel {title}: there is none"
            for title in re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", prose)
            if title not in WORDS_IN_ITALICS
            and not any(each.startswith(title.removeprefix("hoso24 · ")) for each in titles)
        ]
    assert not found, "\n".join(found)


EXAMINED = {
    "BooksBehind": "books",
    "BooksHalted": "books",
    "CertificateEnds": "certificate of",
    "ChangesLate": "oldest writing transaction",
    "DeadLettersWait": "dead letters",
    "DeliveryLate": "oldest writing transaction",
    "EpochsDiffer": "epoch",
    "EventRefused": "books",
    "FeedBreaksOften": "redis policy",
    "IntakeAvailabilityBurn": "postgres as writer",
    "InternalCertificateEnds": "certificate of",
    "LookupAvailabilityBurn": "",
    "LookupFreshnessBurn": "heartbeat",
    "OutcomesUnknown": "synchronous standby",
    "PostgresAway": "postgres as reader",
    "PostgresHostAway": "postgres as reader",
    "PrimaryAway": "postgres as relay",
    "RedisAway": "redis",
    "RedisRefuses": "redis memory",
    "RelayHalted": "log",
    "RelayTwoLeaders": "relay",
    "RelayWithoutLeader": "relay",
    "SentinelQuorumLost": "sentinels",
    "StaleAnswers": "heartbeat",
    "StandbyLagging": "standby",
    "NoticesBehind": "oldest writing transaction",
    "NoticesDying": "notices",
    "WebhookPaused": "webhooks",
    "WebhooksBehind": "oldest writing transaction",
    "WriterHoldsDeliveryUp": "oldest writing transaction",
}
"""Alert → the line of `hoso24 doctor` that answers it; one where any may."""


def lines_of_the_doctor() -> set[str]:
    """The beginnings of all that it calls a line, as its modules have them."""
    texts = {
        node.value
        for module in (postgres_checks, redis_checks, certificate_checks, lookup.upkeep.doctor, intake.doctor)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text.strip() for text in texts} | {f"postgres as {role}" for role in lookup.upkeep.doctor.PREFERRED}


def test_pages_begin_with_the_doctor_where_it_answers_the_question() -> None:
    found = []
    there = lines_of_the_doctor()
    for alert, line in EXAMINED.items():
        text = (RUNBOOKS / f"{alert}.md").read_text("utf-8")
        (first,) = re.findall(r"^## First look\n\n1\. (.*)$", text, re.MULTILINE)
        command, *named = re.findall(r"`([^`]+)`", first)
        lines = {each for each in named if not each.startswith(("HOSO24_", "openssl ", "kubectl "))}
        if not command.endswith(" -- hoso24 doctor") or line not in lines | {""}:
            found.append(f"{alert}.md does not begin with `hoso24 doctor` and its line `{line}`")
        found += [f"{alert}.md names `{each}`: the doctor has no such line" for each in lines - there]
    assert not found, "\n".join(found)


WORDS_IN_ITALICS = {"Rolling back", "fsync", "In Kubernetes"}


def test_windows_of_burns_are_all_recorded() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for burn in objectives().burn:
        assert {f"slo:error_ratio:{burn.long}", f"slo:error_ratio:{burn.short}", f"slo:errors:{burn.long}"} <= recorded


def test_panels_do_not_overlap() -> None:
    for each in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in each["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= dashboards.COLUMNS
            taken |= cells
