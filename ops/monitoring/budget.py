"""The runbook's page on error budgets, made of the objectives."""

from ops.monitoring.objectives import Burn, Objective, Objectives, seconds

MINUTES_A_DAY = 24 * 60


def page(promised: Objectives) -> str:
    """`docs/runbooks/error-budget.md`."""
    return "\n".join(
        [
            "# Error budgets",
            "",
            "Made by `make monitoring` from k8s/components/monitoring/slo.toml; do not edit.",
            "",
            f"What is promised holds over {promised.period_days} days. What may go wrong is the budget; as long as",
            "some is left, changes may be made and game days run. When none is left, only what makes the service more",
            "reliable is released until some is.",
            "",
            "| promise | objective | budget | all of it as time | good | bad | not counted |",
            "|---|---:|---:|---:|---|---|---|",
            *(_promise(slo, promised.period_days) for slo in promised.slo),
            "",
            "One promise has no budget: acknowledged intake lost is 0. Its alert is [RelayHalted](RelayHalted.md).",
            "",
            "## When somebody is woken",
            "",
            "An alert looks at a long window and, so that it ends when the trouble does, at a short one.",
            "",
            "| times faster than the budget lasts | seen over | gone within | of the budget spent by then | who |",
            "|---:|---|---:|---:|---|",
            *(_burn(burn, promised.period_days) for burn in promised.burn),
            "",
            "It also takes a few bad ones within the long window, so that one failure among twenty lookups at night",
            "wakes nobody: " + ", ".join(f"{slo.least_bad} ({slo.name})" for slo in promised.slo) + ".",
            "",
            "## What to do with what is left",
            "",
            "1. Look at the dashboard *hoso24 · Overview*: the first row is what is left of each budget.",
            "2. More than half left, late in the period: there is room for a risky change or a game day.",
            "3. Less than a quarter left: the next releases are corrections only, one at a time.",
            "4. Nothing left: stop releases, and write down what spent it. The page of the alert that fired says where",
            "   to begin.",
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
    who = {"page": "whoever is on call, now", "ticket": "somebody, within the next working day"}[burn.severity]
    return f"| {burn.rate:g} | {burn.long} and {burn.short} | {span} | {spent:.0%} | {who} |"
