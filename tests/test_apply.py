"""k8s/apply: stores, schema, processes, each waited for; what holds a pod up is named, and every waiting ends.

kubectl is one that takes notes. What the templates make of the API's objects is tested with the real kubectl.
"""

import json
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.manifests import ROOT
from tests.programs import program

pytestmark = pytest.mark.servers

KUBECTL = """#!/bin/sh
echo "$*" | tr '\\n' ' ' >> "$NOTES"
echo >> "$NOTES"
# The answer of this turn: the line of that number in the file, or its last one.
turn() {
    count=$(grep -c -F "$1" "$NOTES")
    line=$(sed -n "${count}p" "$2")
    [ -n "$line" ] || line=$(tail -n 1 "$2")
    case $line in
        '!'*) echo "${line#!}" >&2; exit 1 ;;
        *) echo "$line" ;;
    esac
}
case "$*" in
    *apply*"$APPLY_FAILS"*) [ -z "$APPLY_FAILS" ] || { echo "Error: refused" >&2; exit 1; } ;;
esac
case "$*" in
    *apply*notin*)
        echo statefulset.apps/redis
        [ -z "$OPERATOR" ] || echo cluster.postgresql.cnpg.io/postgres ;;
    *apply*name=migrate*) echo networkpolicy.networking.k8s.io/migrate; echo job.batch/migrate-v0-1-0 ;;
    *"get horizontalpodautoscalers"*) case "$*" in *'"lookup"'*) echo 6 ;; esac ;;
    *"get statefulset"*) echo "1 1 3 3 3 3" ;;
    *"get cluster"*) echo "3 3 True Cluster in healthy state" ;;
    *"get deployment.apps/lookup"*) turn "get deployment.apps/lookup" "$LOOKUP" ;;
    *"get deployment"*) echo "1 1 2 2 2 2 NewReplicaSetAvailable" ;;
    *"get job.batch"*) turn "get job.batch" "$CONDITIONS" ;;
    *"get pods"*job-name=*Pending*) ;;
    *"get pods"*job-name=*) turn "containerStatuses" "$PODS" ;;
esac
"""


class Ran(NamedTuple):
    """Exit status, what was printed on both outputs, and kubectl's command lines."""

    status: int
    out: str
    lines: list[str]


Apply = Callable[..., Ran]


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    kubectl, notes = tmp_path / "kubectl", tmp_path / "notes"
    kubectl.write_text(KUBECTL, "utf-8")
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)

    def run(
        overlay: str,
        *job: str,
        operator: bool = True,
        lookup: tuple[str, ...] = ("1 1 6 6 6 6",),
        pods: tuple[str, ...] = ("",),
        apply_fails: str = "",
    ) -> Ran:
        """The states of Job, lookup and the Job's pods are given one for each time they are read; `!…` is a failure."""
        for name, texts in {"conditions": job, "lookup": lookup, "pods": pods}.items():
            (tmp_path / name).write_text("".join(f"{each}\n" for each in texts), "utf-8")
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "NOTES": str(notes),
            "CONDITIONS": str(tmp_path / "conditions"),
            "LOOKUP": str(tmp_path / "lookup"),
            "PODS": str(tmp_path / "pods"),
            "APPLY_FAILS": apply_fails,
            "OPERATOR": "yes" if operator else "",
            "PAUSE": "0",
            "PATIENCE": "4",
        }
        done = subprocess.run(
            ["sh", str(ROOT / "k8s/apply"), overlay, "--context=test"],
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout, notes.read_text("utf-8").splitlines())

    return run


def steps(lines: list[str]) -> list[str]:
    """What was applied and waited for, in short, once each."""
    words = {
        "notin .lookup": "stores",
        "get statefulset.apps/redis": "redis ready",
        "get cluster.postgresql.cnpg.io/postgres": "postgres ready",
        "apply --kustomize .*name=migrate": "schema",
        "get job.batch": "schema ready",
        "name in .lookup": "processes",
        "get deployment.apps/lookup": "lookup ready",
        "get deployment.apps/intake": "intake ready",
        "get deployment.apps/relay": "relay ready",
    }
    return list(dict.fromkeys(step for line in lines for word, step in words.items() if re.search(word, line)))


IN_ORDER = [
    "stores",
    "redis ready",
    "postgres ready",
    "schema",
    "schema ready",
    "processes",
    "lookup ready",
    "intake ready",
    "relay ready",
]
RUNNING = "/1 running, 0 failed"
DONE = "SuccessCriteriaMet Complete /0 running, 0 failed"


def test_stores_then_schema_then_processes(apply: Apply) -> None:
    ran = apply("production", RUNNING, DONE)
    assert ran.status == 0, ran.out
    assert steps(ran.lines) == IN_ORDER
    assert all("--context=test" in line for line in ran.lines)
    assert all("--namespace hoso24 " in line for line in ran.lines if " apply " not in f" {line} ")


def test_nothing_is_changed_after_a_migration_that_failed(apply: Apply) -> None:
    ran = apply("production", RUNNING, "FailureTarget Failed /0 running, 7 failed")
    assert ran.status == 1
    assert steps(ran.lines) == IN_ORDER[:5]
    assert [line for line in ran.lines if "logs" in line], "its last words are shown"
    assert "kubectl --namespace hoso24 delete job.batch/migrate-v0-1-0" in ran.out


def test_overlay_without_the_operator_needs_none(apply: Apply) -> None:
    ran = apply("dev", DONE, operator=False)
    assert ran.status == 0, ran.out
    assert steps(ran.lines) == [step for step in IN_ORDER if step != "postgres ready"]
    assert all("--namespace hoso24-dev " in line for line in ran.lines if " apply " not in f" {line} ")


@pytest.mark.parametrize("reason", ["ImagePullBackOff: no such tag", "Unschedulable: 0/3 nodes are available"])
def test_what_holds_a_pod_up_is_named_at_once_and_not_waited_for_without_end(apply: Apply, reason: str) -> None:
    ran = apply("production", RUNNING, pods=(f"migrate-v0-1-0-x: {reason}",))
    assert ran.status == 1
    assert ran.out.count(f"   pod migrate-v0-1-0-x: {reason}") == 1
    assert "has been held up for too long" in ran.out
    assert "processes" not in steps(ran.lines)


def test_pod_that_gets_its_node_in_the_end_is_waited_for(apply: Apply) -> None:
    held = "migrate-v0-1-0-x: Unschedulable: 0/3 nodes are available"
    ran = apply("production", RUNNING, RUNNING, RUNNING, DONE, pods=(held, held, ""))
    assert ran.status == 0, ran.out


def test_attempt_that_failed_does_not_end_the_next_one(apply: Apply) -> None:
    before = "migrate-v0-1-0-x: Error: ended with exit status 1"
    ran = apply("production", *[RUNNING] * 9, DONE, pods=(before,))
    assert ran.status == 0, ran.out
    assert before in ran.out


def test_deleted_job_is_noticed(apply: Apply) -> None:
    ran = apply("production", RUNNING, '!Error from server (NotFound): jobs.batch "migrate-v0-1-0" not found')
    assert ran.status == 1
    assert "job.batch/migrate-v0-1-0 is gone" in ran.out
    assert "processes" not in steps(ran.lines)


def test_kubectl_may_fail_now_and_then_but_not_for_ever(apply: Apply) -> None:
    refused = "!The connection to the server was refused"
    assert apply("production", RUNNING, refused, refused, DONE).status == 0
    ran = apply("production", refused)
    assert ran.status == 1
    assert "connection to the server was refused" in ran.out


@pytest.mark.parametrize("selector", ["notin", "name=migrate", "name in"])
def test_apply_that_fails_is_the_end(apply: Apply, selector: str) -> None:
    ran = apply("production", DONE, apply_fails=selector)
    assert ran.status != 0
    assert "All of it runs" not in ran.out


def test_rollout_is_done_when_as_many_run_as_the_autoscaler_wants_at_least(apply: Apply) -> None:
    states = ("1 1 1 1 1 1 NewReplicaSetAvailable", "1 1 6 6 6 4", "1 1 6 7 6 6", "1 1 6 6 6 6")
    ran = apply("production", DONE, lookup=states)
    assert ran.status == 0
    assert "deployment.apps/lookup: 1 of 6 in the new form, 1 available, 1 in all" in ran.out
    assert len([line for line in ran.lines if "get deployment.apps/lookup" in line]) == len(states)


def test_rollout_without_progress_fails(apply: Apply) -> None:
    ran = apply("production", DONE, lookup=("2 2 6 7 1 6 ProgressDeadlineExceeded",))
    assert ran.status == 1
    assert "the rollout makes no progress" in ran.out


# -- the templates ---------------------------------------------------------------------------------------


def template(name: str) -> str:
    text = (ROOT / "k8s/waiting.sh").read_text("utf-8") + (ROOT / "k8s/apply").read_text("utf-8")
    (found,) = re.findall(rf"^{name}='(.*?)'$", text, re.MULTILINE | re.DOTALL)
    return str(found)


KINDS = {
    "pods": "Pod",
    "deployments": "Deployment",
    "jobs": "Job",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
}
GROUPS = {"pods": "v1", "deployments": "apps/v1", "jobs": "batch/v1", "horizontalpodautoscalers": "autoscaling/v2"}


class Api(BaseHTTPRequestHandler):
    """As much of the API as `kubectl get` needs; `objects` are by resource."""

    objects: dict[str, list[dict[str, Any]]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[-1] == "api":
            answer: dict[str, Any] = {"kind": "APIVersions", "versions": ["v1"]}
        elif path[-1] == "apis":
            versions = [
                {"groupVersion": each, "version": each.partition("/")[2]} for each in GROUPS.values() if "/" in each
            ]
            groups = [{"name": each["groupVersion"].partition("/")[0], "versions": [each], "preferredVersion": each}
                      for each in versions]  # fmt: skip
            answer = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        elif "namespaces" in path:
            found = self.objects[path[path.index("namespaces") + 2]]
            named = [each for each in found if each["metadata"]["name"] == path[-1]]
            answer = named[0] if named else {"kind": "List", "apiVersion": "v1", "items": found}
        else:
            here = "/".join(path[1:])
            names = [name for name, group in GROUPS.items() if group == here]
            same = {"singularName": "", "namespaced": True, "verbs": ["get", "list"]}
            resources = [{"name": name, "kind": KINDS[name], **same} for name in names]
            answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": here, "resources": resources}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def get(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`kubectl get WORDS` with a template, of these objects."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def run(words: str, text: str, *objects: dict[str, Any]) -> str:
        resource = words.split(maxsplit=1)[0].partition(".")[0]
        found = [{"apiVersion": GROUPS[resource], "kind": KINDS[resource], **each} for each in objects]
        Api.objects = {resource: found}
        command = [program("kubectl"), f"--server=http://127.0.0.1:{server.server_port}", "--namespace=n", "get",
                   *words.split(), f"--output=go-template={text}"]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": "/dev/null"}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    server.shutdown()
    thread.join()
    server.server_close()


def pod(name: str, phase: str = "Pending", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": phase, **status}}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "state": state}]


def test_reason_of_every_pod_that_does_not_run_is_told(get: Callable[..., str]) -> None:
    unschedulable = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    told = get(
        "pods",
        template("REASONS"),
        pod("new"),
        pod("fine", "Running", containerStatuses=container(running={"startedAt": "2026-11-30T00:00:00Z"})),
        pod("starts", containerStatuses=container(waiting={"reason": "ContainerCreating"})),
        pod("nowhere", conditions=unschedulable),
        pod("no-image", containerStatuses=container(waiting=waiting)),
        pod("first", initContainerStatuses=container(waiting=waiting)),
        pod("ended", "Failed", containerStatuses=container(terminated={"reason": "OOMKilled", "exitCode": 137})),
        pod("well", "Succeeded", containerStatuses=container(terminated={"reason": "Completed", "exitCode": 0})),
    )
    assert told.splitlines() == [
        "nowhere: Unschedulable: no node",
        "no-image: ImagePullBackOff: Back-off pulling image",
        "first: ImagePullBackOff: Back-off pulling image",
        "ended: OOMKilled: ended with exit status 137",
    ]
    assert get("pods", template("PENDING"), pod("a"), pod("b", "Running")) == "a "


def test_states_are_told_of_objects_old_and_new(get: Callable[..., str]) -> None:
    new = {"metadata": {"name": "d", "generation": 1}, "spec": {"replicas": 3}, "status": {}}
    assert get("deployments.apps d", template("ROLLOUT"), new) == "1 0 3 0 0 0"
    conditions = [{"type": "Available", "reason": "a"}, {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
    counts = {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 2, "availableReplicas": 3}
    old = new | {"status": counts | {"conditions": conditions}}
    assert get("deployments.apps d", template("ROLLOUT"), old) == "1 1 3 4 2 3 ProgressDeadlineExceeded"
    job: dict[str, Any] = {"metadata": {"name": "j"}, "status": {}}
    assert get("jobs j", template("JOB"), job) == "/0 running, 0 failed"
    ended = job | {"status": {"failed": 2, "conditions": [{"type": "Failed", "status": "True"}]}}
    assert get("jobs j", template("JOB"), ended) == "Failed /0 running, 2 failed"
    scaled = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"name": "lookup"}, "minReplicas": 6}}
    asked = template("MINIMUM").replace("%s", "lookup")
    assert get("horizontalpodautoscalers.autoscaling", asked, scaled) == "6"
