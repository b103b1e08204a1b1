"""Writes docs/metrics.md, the reference of all metrics, from their declarations."""

import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import ModuleType

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

HEAD = """\
# Metrics

Written by `make metrics-page` from the declarations in the modules called `metrics`; do not edit. `hoso24 metrics`
prints the same.

Each process has its metrics at `/metrics` on its admin port: in OpenMetrics, with the traces of sampled requests as
exemplars, for a client that accepts it, otherwise in Prometheus's older text format. Times are in seconds, sizes in
bytes. Every label has a small, fixed set of values; no dossier, person or address is among them. The `python_…` and
`process_…` metrics are those of the Prometheus client.
"""

WIDTH = 120
_ENDINGS = {"counter": "_total", "info": "_info"}


def page(modules: Mapping[str, ModuleType]) -> str:
    """The whole page; `modules` by the title of their section."""
    return HEAD + "".join(_section(title, module) for title, module in modules.items())


def declared(module: ModuleType) -> Iterator[MetricWrapperBase]:
    """The metrics that a module declares, in order."""
    return (value for value in vars(module).values() if isinstance(value, MetricWrapperBase))


def _section(title: str, module: ModuleType) -> str:
    return f"\n## {title}\n" + "".join(_entry(metric) for metric in declared(module))


def _entry(metric: MetricWrapperBase) -> str:
    (described,) = metric.describe()
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    meaning = described.documentation
    for label in metric._labelnames:
        meaning = re.sub(rf"\b{label}(?= (?:is|as)\b)", f"`{label}`", meaning)
    kind = described.type + (f" by {labels}" if labels else "")
    if isinstance(metric, Histogram):
        kind += f"; buckets to {_bounds(metric)}"
    name = described.name + _ENDINGS.get(described.type, "")
    return f"\n### `{name}`\n\n*{kind}*\n\n{textwrap.fill(meaning, WIDTH, break_on_hyphens=False)}\n"


def _bounds(histogram: Histogram) -> str:
    bounds: list[float] = histogram._kwargs.get("buckets", Histogram.DEFAULT_BUCKETS)
    return ", ".join(f"{bound:g}" for bound in bounds if not math.isinf(bound))
