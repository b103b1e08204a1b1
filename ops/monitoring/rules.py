"""Recording rules and alerts for Prometheus, generated from the objectives."""

from typing import Any

from ops.monitoring.objectives import Burn, Group, Objective, Objectives

Rule = dict[str, Any]

BUDGET_EVERY = "5m"
"""Interval of computing the whole period's budget, which reads a month of samples."""


def groups(promised: Objectives, alerts: list[Group]) -> list[dict[str, Any]]:
    """All groups of rules, in the form of a Prometheus rule file or a PrometheusRule."""
    return [
        # Ratios and the alerts on them share a group: the rules of a group are evaluated in order.
        *(
            {"name": f"slo-{slo.name}", "rules": [*_measured(slo, promised), *_burning(slo, promised)]}
            for slo in promised.slo
        ),
        {
            "name": "slo-budgets",
            "interval": BUDGET_EVERY,
            "rules": [_budget(slo, promised.period_days) for slo in promised.slo],
        },
        *({"name": group.name, "rules": [*_records(group), *_alerts(group, promised.runbooks)]} for group in alerts),
        {"name": "runbooks", "rules": [_link(promised.runbooks)]},
    ]


def prometheus_rule(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The groups as a PrometheusRule for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hoso24", "labels": {"app.kubernetes.io/part-of": "hoso24"}},
        "spec": {"groups": groups},
    }


def _measured(slo: Objective, promised: Objectives) -> list[Rule]:
    ratios = [
        _record(
            f"slo:error_ratio:{window}",
            f"{_errors(slo, window)} / (({slo.total_in(window)}) > 0)",
            slo,
        )
        for window in promised.windows
    ]
    bad = [
        _record(f"slo:errors:{window}", _errors(slo, window), slo)
        for window in sorted({burn.long for burn in promised.burn}, key=promised.windows.index)
    ]
    return [*ratios, *bad, _record("slo:objective", f"vector({slo.objective})", slo)]


def _errors(slo: Objective, window: str) -> str:
    """Zero when a counter has no series yet, because it was never incremented."""
    return f"(({slo.errors_in(window)}) or 0 * ({slo.total_in(window)}))"


def _budget(slo: Objective, days: int) -> Rule:
    period = f"{days}d"
    expr = f"1 - {_errors(slo, period)} / (({slo.total_in(period)}) > 0) / {slo.budget:g}"
    return _record("slo:budget_left", expr, slo)


def _record(name: str, expr: str, slo: Objective) -> Rule:
    return {"record": name, "expr": expr, "labels": {"slo": slo.name}}


def _burning(slo: Objective, promised: Objectives) -> list[Rule]:
    return [_burn(slo, burn, promised) for burn in promised.burn]


def _burn(slo: Objective, burn: Burn, promised: Objectives) -> Rule:
    most = f"{burn.rate:g} * {slo.budget:g}"
    which = f'{{slo="{slo.name}"}}'
    days = promised.period_days / burn.rate
    return {
        "alert": slo.alert,
        "expr": f"slo:error_ratio:{burn.long}{which} > {most} and slo:error_ratio:{burn.short}{which} > {most} "
        f"and slo:errors:{burn.long}{which} >= {slo.least_bad}",
        "for": "1m",
        "labels": {"severity": burn.severity, "burn": f"{burn.rate:g}", "slo": slo.name},
        "annotations": {
            "summary": f"{slo.title}: {{{{ $value | humanizePercentage }}}} were bad within {burn.long}",
            "description": f"{slo.budget:.2%} may be. At {burn.rate:g} times that, the budget of "
            f"{promised.period_days} days is gone within {_span(days)}. Bad is: {slo.bad}.",
            "runbook_url": f"{promised.runbooks}{slo.alert}.md",
        },
    }


def _span(days: float) -> str:
    return f"{days:.0f} days" if days >= 3 else f"{days * 24:.0f} hours"


def _link(runbooks: str) -> Rule:
    """A series that has the runbooks' URL as its label: dashboards take it from there."""
    return {"record": "hoso24:runbooks", "expr": "vector(1)", "labels": {"url": runbooks}}


def _records(group: Group) -> list[Rule]:
    return [{"record": record.name, "expr": _one_line(record.expr)} for record in group.record]


def _one_line(expr: str) -> str:
    return " ".join(expr.split())


def _alerts(group: Group, runbooks: str) -> list[Rule]:
    return [
        {
            "alert": alert.name,
            "expr": _one_line(alert.expr),
            "for": alert.lasting,
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{runbooks}{alert.name}.md",
            },
        }
        for alert in group.alert
    ]
