"""The dashboards as pictures, without Grafana: `python -m ops.monitoring.pictures PROMETHEUS DIRECTORY`.

Runs the panels' queries on a Prometheus over the last MINUTES minutes and draws them with matplotlib
(requirements-bench.lock).
"""

import io
import json
import math
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

from ops.monitoring import dashboards
from ops.monitoring.dashboards import Dashboard, Panel
from ops.monitoring.objectives import objectives

mpl.use("agg")
from matplotlib import pyplot as plt
from PIL import Image

COLUMNS = 3
MINUTES = 10
STEP = 5
DOTS_PER_INCH = 80
"""1,200 pixels wide: words can be read, and a picture of a quiet house stays below 100 KB."""
COLOURS = 64
MOST_LINES = 8
"""Limit of lines in one picture."""
_UNITS = {"reqps": "a second", "ops": "a second", "s": "seconds", "percentunit": "share", "bytes": "bytes", "none": ""}

Line = tuple[str, list[float], list[float]]


def lines(prometheus: str, panel: Panel) -> list[Line]:
    """Name, times (minutes relative to now) and values of a panel's series, at most MOST_LINES."""
    found: list[Line] = []
    for query in panel.queries:
        for series in _asked(prometheus, query.promql(rate="30s", namespace=".*", pod=".*")):
            now = series["values"][-1][0]
            times = [(at - now) / 60 for at, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            found.append((_named(query.legend, series["metric"]), times, values))
    return sorted(found, key=lambda line: -max((v for v in line[2] if not math.isnan(v)), default=0))[:MOST_LINES]


def _asked(prometheus: str, expr: str) -> list[dict[str, Any]]:
    now = json.loads(_read(f"{prometheus}/api/v1/query?query=time()"))["data"]["result"][0]
    span = {"query": expr, "start": float(now) - 60 * MINUTES, "end": float(now), "step": STEP}
    answer = json.loads(_read(f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(span)}"))
    return list(answer["data"]["result"])


def _read(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise SystemExit(f"{url} is not an http or https URL of a Prometheus server.")
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - checked above
        return bytes(response.read())


def _named(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend and (re.sub(r"\{\{\w+\}\}", "", legend).strip() or "none")


def draw(dashboard: Dashboard, prometheus: str, file: Path) -> None:
    """Draw a dashboard into a file."""
    panels = [panel for row in dashboard.row for panel in row.panel]
    height = math.ceil(len(panels) / COLUMNS)
    figure, places = plt.subplots(height, COLUMNS, figsize=(15, 2.7 * height), layout="constrained", squeeze=False)
    figure.suptitle(dashboard.title, fontsize=14)
    for place, panel in zip(places.flat, panels, strict=False):
        _draw_panel(place, panel, lines(prometheus, panel))
    for place in places.flat[len(panels) :]:
        place.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH)
    plt.close(figure)
    # A palette, or the file would be three times as large.
    palette = Image.Quantize.MAXCOVERAGE
    Image.open(drawn).convert("RGB").quantize(COLOURS, method=palette).save(file, optimize=True)


def _draw_panel(place: Any, panel: Panel, found: list[Line]) -> None:
    place.set_title(panel.title, fontsize=9)
    if panel.kind == "number":
        place.set_axis_off()
        latest = found[0][2][-1] if found else math.nan
        text = f"{latest:.1%}" if panel.unit == "percentunit" else f"{latest:g}"
        place.text(0.5, 0.5, text, ha="center", va="center", fontsize=26, transform=place.transAxes)
        return
    for name, times, values in found:
        place.plot(times, values, label=name or panel.title, linewidth=1.2)
    place.set_ylim(bottom=0)
    place.set_ylabel(_UNITS[panel.unit], fontsize=7)
    place.tick_params(labelsize=7)
    place.grid(alpha=0.25)
    if found:
        place.legend(fontsize=6, loc="upper left")


def main() -> None:
    """The command line."""
    prometheus, directory = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for dashboard in dashboards.dashboards(objectives()):
        draw(dashboard, prometheus, directory / f"{dashboard.uid}.png")


if __name__ == "__main__":
    main()
