"""k8s/apply: stores, schema, processes; and nothing after a migration that failed. kubectl is one that takes notes."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests import ROOT

pytestmark = pytest.mark.servers

Apply = Callable[..., tuple[int, list[str]]]

KUBECTL = """#!/bin/sh
echo "$*" >> "$NOTES"
case "$*" in
    *apply*name=migrate*) echo networkpolicy.networking.k8s.io/migrate; echo job.batch/migrate-v0-1-0 ;;
    *"get statefulsets"*) echo statefulset.apps/redis ;;
    *"get clusters"*) [ -n "$OPERATOR" ] || exit 1; echo cluster.postgresql.cnpg.io/postgres ;;
    *"get job.batch"*) sed -n "$(grep -c 'get job.batch' "$NOTES")p" "$CONDITIONS" ;;
esac
"""


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    kubectl, notes, conditions = tmp_path / "kubectl", tmp_path / "notes", tmp_path / "conditions"
    kubectl.write_text(KUBECTL, "utf-8")
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)

    def run(overlay: str, *said: str, operator: bool = True) -> tuple[int, list[str]]:
        """Exit status and kubectl's command lines; the Job's conditions are `said`, one at each question."""
        conditions.write_text("".join(f"{each}\n" for each in said), "utf-8")
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "NOTES": str(notes),
            "CONDITIONS": str(conditions),
            "OPERATOR": "yes" if operator else "",
            "PAUSE": "0",
        }
        command = ["sh", str(ROOT / "k8s/apply"), overlay, "--context=test"]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
        return done.returncode, notes.read_text("utf-8").splitlines()

    return run


def steps(lines: list[str]) -> list[str]:
    """What was applied and waited for, in short."""
    words = {
        "notin (lookup": "stores",
        "statefulset.apps/redis": "redis ready",
        "--for=condition=Ready": "postgres ready",
        "name=migrate": "schema",
        "name in (lookup": "processes",
        "deployment/lookup": "lookup ready",
        "deployment/intake": "intake ready",
        "deployment/relay": "relay ready",
    }
    return [step for line in lines for word, step in words.items() if word in line]


IN_ORDER = [
    "stores",
    "redis ready",
    "postgres ready",
    "schema",
    "processes",
    "lookup ready",
    "intake ready",
    "relay ready",
]


def test_stores_then_schema_then_processes(apply: Apply) -> None:
    status, lines = apply("production", "", "SuccessCriteriaMet Complete")
    assert status == 0
    assert steps(lines) == IN_ORDER
    assert all("--context=test" in line for line in lines)
    assert all("--namespace hoso24 " in line for line in lines if " apply " not in f" {line} ")


def test_nothing_is_changed_after_a_migration_that_failed(apply: Apply) -> None:
    status, lines = apply("production", "", "FailureTarget Failed")
    assert status == 1
    assert steps(lines) == IN_ORDER[:4]


def test_overlay_without_the_operator_needs_none(apply: Apply) -> None:
    status, lines = apply("dev", "Complete", operator=False)
    assert status == 0
    assert steps(lines) == [step for step in IN_ORDER if step != "postgres ready"]
    assert all("--namespace hoso24-dev " in line for line in lines if " apply " not in f" {line} ")
