"""Generates the runbooks' page on error budgets from the objectives."""

from ops.monitoring.objectives import Burn, Objective, Objectives, seconds

MINUTES_A_DAY = 24 * 60


def page(promised: Objectives) -> str:
    """The content of `docs/runbooks/error-budget.md`."""
    return "\n".join(
        [
            "# Error budgets",
            "",
            "Made by `make monitoring` from k8s/components/monitoring/slo.toml; do not edit.",
            "",
            f"Each objective holds over {promised.period_days} days. Its budget is the share that may fail. While some",
            "is left, release changes and run game days. When none is left, release only what makes the service",
            "more reliable.",
            "",
            "| promise | objective | budget | as time | good | bad | not counted |",
            "|---|---:|---:|---:|---|---|---|",
            *(_promise(slo, promised.period_days) for slo in promised.slo),
            "",
            "One promise has no budget: no acknowledged change is lost. Its alert is [RelayHalted](RelayHalted.md).",
            "",
            "## When an alert fires",
            "",
            "An alert looks at a long window and at a short one: the short one ends it when the trouble ends.",
            "",
            "| burn rate | windows | budget lasts | budget spent when it fires | who |",
            "|---:|---|---:|---:|---|",
            *(_burn(burn, promised.period_days) for burn in promised.burn),
            "",
            "It also needs some bad events within the long window, so that one failure among twenty lookups at night",
            "raises no alert: " + ", ".join(f"{slo.least_bad} ({slo.name})" for slo in promised.slo) + ".",
            "",
            "## What to do with the rest of a budget",
            "",
            "1. Look at the dashboard *hoso24 · Overview*: the first row shows the rest of each budget.",
            "2. More than half left, late in the period: a risky change or a game day is possible.",
            "3. Less than a quarter left: release corrections only, one at a time.",
            "4. Nothing left: stop releases, and write down the cause. Begin with the page of the alert that fired.",
            "",
        ]
    )


def _promise(slo: Objective, days: int) -> str:
    minutes = slo.budget * days * MINUTES_A_DAY
    span = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return (
        f"| [{slo.title}]({slo.alert}.md) | {slo.objective:.2%} | {slo.budget:.2%} | {span} "
        f"| {slo.good} | {slo.bad} | {slo.not_counted} |"
    )


def _burn(burn: Burn, days: int) -> str:
    hours = days / burn.rate * 24
    span = f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
    spent = burn.rate * seconds(burn.long) / (days * seconds("1d"))
    who = {"page": "the person on call, now", "ticket": "the team, within the next working day"}[burn.severity]
    return f"| {burn.rate:g} | {burn.long} and {burn.short} | {span} | {spent:.0%} | {who} |"
