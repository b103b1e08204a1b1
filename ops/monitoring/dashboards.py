"""Grafana dashboards, generated from `dashboards.toml`, the objectives, and the runbooks' pages."""

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ops.monitoring.objectives import PROMISES, Objectives

COLUMNS = 24
"""The width of Grafana's grid."""
_SIZES = {"graph": (8, 7), "bars": (8, 7), "number": (4, 7)}
_TYPES = {"graph": "timeseries", "bars": "bargauge", "number": "stat"}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PAGES = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
_SEEN = "hoso24_build_info"
"""A series of every process."""
_NAMESPACES = 'namespace=~"$namespace"'
_TITLE = re.compile(r"(?<![*\w])\*([^*\n]+)\*(?!\*)")


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PromQL query, and the legend of its series."""

    expr: str
    legend: str

    def promql(self, *, rate: str = "$__rate_interval", namespace: str = "$namespace", pod: str = "$pod") -> str:
        """The query with these in the place of its own variables: a window, and regular expressions."""
        here = f'namespace=~"{namespace}"'
        expr = self.expr.replace("$pods", f'{here},pod=~"{pod}"').replace("$namespaces", here)
        return expr.replace("$rate", rate)


class Panel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One panel; `description` states what is normal."""

    title: str
    kind: str
    unit: str
    description: str
    queries: list[Query]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Panels under one heading."""

    title: str
    panel: list[Panel]


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dashboard. `objectives`: it starts with the rest of each error budget."""

    uid: str
    title: str
    description: str
    row: list[Row]
    objectives: bool = False


def dashboards(promised: Objectives, path: Path = PROMISES / "dashboards.toml") -> list[Dashboard]:
    """All dashboards, complete. Raises msgspec.ValidationError for an invalid or incomplete file."""
    with path.open("rb") as file:
        read = msgspec.convert(tomllib.load(file)["dashboard"], list[Dashboard])
    return [
        msgspec.structs.replace(each, row=[*_objectives(promised), *each.row]) if each.objectives else each
        for each in read
    ]


def _objectives(promised: Objectives) -> list[Row]:
    left = [
        Panel(
            slo.title,
            "number",
            "percentunit",
            f"What is left of {promised.period_days} days' budget. {slo.objective:.2%} have to be good. "
            f"Good: {slo.good}. Bad: {slo.bad}. Not counted: {slo.not_counted}.",
            [Query(f'slo:budget_left{{$namespaces,slo="{slo.name}"}}', "")],
        )
        for slo in promised.slo
    ]
    burning = Panel(
        "How fast the budgets are being spent",
        "graph",
        "none",
        "1: a budget lasts exactly its period. 6 and 14.4 page the person on call.",
        [Query("slo:error_ratio:1h{$namespaces} / on (slo) group_left () (1 - slo:objective)", "{{slo}}")],
    )
    return [Row("Budgets left", left), Row("Budgets being spent", [burning])]


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it. The same input gives the same output."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["hoso24"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                # No "all": two installations are not added up.
                _variable("namespace", f"label_values({_SEEN}, namespace)"),
                # A Prometheus outside a cluster knows no pods; ".*" also matches a label that is missing.
                _variable("pod", f"label_values({_SEEN}{{{_NAMESPACES}}}, pod)")
                | {"multi": True, "includeAll": True, "allValue": ".*"},
                _variable("runbooks", "label_values(hoso24:runbooks, url)") | {"hide": 2},
            ]
        },
        "links": [_link("Runbooks", "error-budget")],
        "panels": _laid_out(dashboard),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2, "sort": 1}


def _link(title: str, page: str) -> dict[str, Any]:
    return {"type": "link", "title": title, "url": f"${{runbooks:raw}}{page}.md", "targetBlank": True}


@functools.cache
def _titles() -> list[tuple[str, set[str]]]:
    """Each page of the runbook, and what stands in italics on it: titles of panels, or how they begin."""
    return [(page.stem, set(_TITLE.findall(page.read_text("utf-8")))) for page in sorted(PAGES.glob("*.md"))]


def _pages(panel: Panel) -> list[str]:
    """The pages of the runbook that name this panel."""
    return [page for page, titles in _titles() if any(panel.title.startswith(title) for title in titles)]


def _laid_out(dashboard: Dashboard) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.row:
        panels.append(_heading(row.title, len(panels) + 1, y))
        y += 1
        x = height = 0
        for panel in row.panel:
            width, height = _SIZES[panel.kind]
            if x + width > COLUMNS:
                x, y = 0, y + height
            panels.append(_panel(panel, len(panels) + 1, {"x": x, "y": y, "w": width, "h": height}))
            x += width
        y += height
    return panels


def _heading(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "links": [_link(page, page) for page in _pages(panel)],
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": query.promql(),
                "legendFormat": query.legend or "__auto",
            }
            for n, query in enumerate(panel.queries)
        ],
    }
