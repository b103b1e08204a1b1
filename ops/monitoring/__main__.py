"""Writes the files generated from the objectives; with `--check` only reports whether they are up to date."""

import json
import sys
from pathlib import Path

import yaml

from ops.monitoring import budget, dashboards, rules
from ops.monitoring.objectives import alerts, objectives

ROOT = Path(__file__).resolve().parents[2]
GENERATED = Path("k8s/components/monitoring/generated")


def made() -> dict[Path, str]:
    """Path from the repository's root → content of every generated file."""
    promised = objectives()
    groups = rules.groups(promised, alerts())
    return {
        GENERATED / "rules.yaml": _yaml(rules.prometheus_rule(groups)),
        # The same for a Prometheus without the operator.
        Path("docs/monitoring/rules.yml"): _yaml({"groups": groups}),
        Path("docs/runbooks/error-budget.md"): budget.page(promised),
    } | {
        GENERATED / "dashboards" / f"{each.uid}.json": json.dumps(dashboards.grafana(each), indent=1) + "\n"
        for each in dashboards.dashboards(promised)
    }


def _yaml(content: object) -> str:
    head = "# Made by `make monitoring` from k8s/components/monitoring; do not edit.\n"
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def outdated() -> list[Path]:
    """The generated files that are out of date or no longer generated."""
    wanted = made()
    stale = [path for path, text in wanted.items() if not _is(path, text)]
    there = {path.relative_to(ROOT) for path in (ROOT / GENERATED).rglob("*") if path.is_file()}
    return stale + sorted(there - set(wanted))


def _is(path: Path, text: str) -> bool:
    file = ROOT / path
    return file.is_file() and file.read_text("utf-8") == text


def write() -> None:
    """Write all generated files."""
    for path, text in made().items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


def main() -> None:
    """The command line."""
    if "--check" not in sys.argv:
        write()
        return
    if stale := outdated():
        print("Out of date, run `make monitoring`: " + ", ".join(map(str, stale)), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
