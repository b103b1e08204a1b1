"""What kube-linter, kube-score and checkov would look for, over everything the overlays render to.

Rules of our own instead of one of those programs: they see pod templates only and know nothing of the program, and
checkov brings a hundred packages for what is below. Its own verdict, taken by hand, is in k8s/README.md. What is found
is corrected, or stands in k8s/waivers.yaml with a reason.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.manifests import OVERLAYS, ROOT, Manifests, Object, Workload, render

pytestmark = pytest.mark.servers

WAIVERS = ROOT / "k8s/waivers.yaml"


@dataclass(frozen=True)
class Finding:
    """A rule and the object, as kind/name, that does not keep to it."""

    overlay: str
    rule: str
    object: str


Rule = Callable[[Manifests], Iterable[Object]]
"""The objects that break it."""


def pods(breaks: Callable[[Workload], Any]) -> Rule:
    """A rule about whatever makes pods."""
    return lambda manifests: [each.manifest for each in manifests.workloads() if breaks(each)]


def kinds(*names: str, breaks: Callable[[Object], Any] = lambda _: True) -> Rule:
    """A rule about objects of these kinds."""
    return lambda manifests: [each for each in manifests.of(*names) if breaks(each)]


def volumes(workload: Workload, kind: str) -> Iterator[Object]:
    for volume in workload.pod["volumes"]:
        if kind in volume:
            yield volume[kind] or {}


def tag(workload: Workload) -> str:
    return str(workload.container["image"].rpartition("/")[2].partition(":")[2])


def is_apart(workload: Workload) -> bool:
    """Whether its pods are kept, or at least spread, over nodes."""
    spread = workload.pod.get("topologySpreadConstraints", [])
    keys = {each["topologyKey"] for each in spread}
    apart = workload.pod.get("affinity", {}).get("podAntiAffinity", {})
    keys |= {term["topologyKey"] for term in apart.get("requiredDuringSchedulingIgnoredDuringExecution", [])}
    return "kubernetes.io/hostname" in keys


def probe_targets(workload: Workload) -> set[Any]:
    probes = (workload.container.get(f"{kind}Probe", {}) for kind in ("startup", "liveness", "readiness"))
    return {way["port"] for probe in probes for way in (probe.get("httpGet"), probe.get("tcpSocket")) if way}


def holds_a_password(config: Object) -> bool:
    return any(
        re.search(r"://[^/\s:@]*:[^/\s@]+@|(?i:password|secret|token)\s*=\s*\S", text)
        for text in config["data"].values()
    )


def is_served(workload: Workload) -> bool:
    return workload.manifest["kind"] not in {"Job", "CronJob"}


RULES: dict[str, Rule] = {
    "latest-tag": pods(lambda w: tag(w) in {"", "latest"}),
    "image-by-digest": pods(lambda w: "@sha256:" not in w.container["image"]),
    "always-pull": pods(lambda w: w.container.get("imagePullPolicy") == "Always"),
    "high-user-id": pods(lambda w: w.pod["securityContext"]["runAsUser"] < 10_000),
    "shared-namespaces": pods(lambda w: {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & w.pod.keys()),
    "host-port": pods(lambda w: [port for port in w.container.get("ports", []) if "hostPort" in port]),
    "host-path": pods(lambda w: [*volumes(w, "hostPath")]),
    "bounded-scratch": pods(lambda w: [each for each in volumes(w, "emptyDir") if "sizeLimit" not in each]),
    "unsafe-sysctls": pods(lambda w: w.pod["securityContext"].get("sysctls")),
    "secret-in-environment": pods(
        lambda w: [
            e
            for e in w.container.get("env", [])
            if "valueFrom" in e or re.search("(PASSWORD|SECRET|TOKEN)S?$", e["name"])
        ]
    ),
    "service-account": pods(lambda w: w.pod.get("serviceAccountName", "default") != "default"),
    "restart-policy": pods(lambda w: is_served(w) and w.pod.get("restartPolicy", "Always") != "Always"),
    "job-ttl": kinds("Job", breaks=lambda job: "ttlSecondsAfterFinished" not in job["spec"]),
    "job-ends": kinds("Job", breaks=lambda job: "activeDeadlineSeconds" not in job["spec"]),
    "liveness-probe": pods(lambda w: is_served(w) and "livenessProbe" not in w.container),
    "readiness-probe": pods(lambda w: is_served(w) and "readinessProbe" not in w.container),
    "probe-port": pods(lambda w: probe_targets(w) - w.ports.keys()),
    "three-replicas": pods(lambda w: w.is_repeated and w.manifest["spec"].get("replicas", 3) < 3),
    "three-replicas-by-autoscaler": kinds("HorizontalPodAutoscaler", breaks=lambda hpa: hpa["spec"]["minReplicas"] < 3),
    "apart": pods(lambda w: w.is_repeated and not is_apart(w)),
    "memory-limit": pods(lambda w: "memory" not in w.container["resources"].get("limits", {})),
    "requests": pods(lambda w: {"cpu", "memory"} - w.container["resources"].get("requests", {}).keys()),
    "rolling-update": kinds("Deployment", breaks=lambda d: d["spec"].get("strategy", {}).get("type") == "Recreate"),
    "ssh-port": pods(lambda w: 22 in w.ports.values()),
    "low-port": pods(lambda w: min(w.ports.values(), default=1024) < 1024),
    "outside-address": kinds(
        "Service",
        breaks=lambda s: s["spec"].get("type", "ClusterIP") != "ClusterIP" or "externalIPs" in s["spec"],
    ),
    "no-rights-in-the-cluster": kinds("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
    "default-namespace": lambda manifests: [
        o for o in manifests.objects if o["metadata"].get("namespace") == "default"
    ],
    "password-in-configmap": kinds("ConfigMap", breaks=holds_a_password),
    "governing-service": lambda manifests: [
        each for each in manifests.of("StatefulSet") if each["spec"]["serviceName"] not in manifests.names("Service")
    ],
    "name-label": lambda manifests: [
        each
        for each in manifests.of("Deployment", "StatefulSet", "Job", "Service", "PodDisruptionBudget", "ConfigMap")
        if "app.kubernetes.io/name" not in each["metadata"].get("labels", {})
    ],
}


def findings(overlay: str, manifests: Manifests) -> list[Finding]:
    return [
        Finding(overlay, rule, f"{each['kind']}/{each['metadata']['name']}")
        for rule, broken_by in RULES.items()
        for each in broken_by(manifests)
    ]


@dataclass(frozen=True)
class Waiver:
    """A finding, or several, that is left as it is. Patterns are the shell's."""

    rule: str
    object: str
    reason: str
    overlay: str = "*"

    def covers(self, finding: Finding) -> bool:
        return (
            self.rule == finding.rule
            and fnmatch.fnmatch(finding.object, self.object)
            and fnmatch.fnmatch(finding.overlay, self.overlay)
        )


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return [finding for path in OVERLAYS for finding in findings(path.name, render(path))]


@pytest.fixture(scope="module")
def waivers() -> list[Waiver]:
    return [Waiver(**each) for each in yaml.safe_load(WAIVERS.read_text("utf-8"))]


def test_every_rule_is_kept_or_waived(found: list[Finding], waivers: list[Waiver]) -> None:
    assert [each for each in found if not any(waiver.covers(each) for waiver in waivers)] == []


def test_every_waiver_is_still_needed_and_says_why(found: list[Finding], waivers: list[Waiver]) -> None:
    assert [waiver for waiver in waivers if not any(waiver.covers(each) for each in found)] == []
    assert [waiver for waiver in waivers if len(waiver.reason) < 10] == []


def spoilt() -> Manifests:
    """One workload that keeps to nothing."""
    container = {
        "image": "hoso24:latest",
        "ports": [{"name": "ssh", "containerPort": 22, "hostPort": 22}],
        "env": [{"name": "PASSWORD", "value": "x"}],
        "imagePullPolicy": "Always",
        "readinessProbe": {"tcpSocket": {"port": "nowhere"}},
        "resources": {},
    }
    pod = {
        "hostNetwork": True,
        "serviceAccountName": "admin",
        "restartPolicy": "OnFailure",
        "securityContext": {"runAsUser": 0, "sysctls": [{"name": "kernel.msgmax", "value": "1"}]},
        "volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}],
        "containers": [container],
    }
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "bad", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "bad"}}, "spec": pod},
        },
    }
    without_probes = {key: value for key, value in container.items() if key != "readinessProbe"}
    job = {
        "kind": "Job",
        "metadata": {"name": "bad"},
        "spec": {"template": {"metadata": {"labels": {}}, "spec": pod | {"containers": [without_probes]}}},
    }
    stateful: Object = {
        "kind": "StatefulSet",
        "metadata": {"name": "bad"},
        "spec": {
            "serviceName": "none",
            "template": {"metadata": {"labels": {}}, "spec": pod | {"containers": [without_probes]}},
        },
    }
    others: list[Object] = [
        {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "bad"}, "spec": {"minReplicas": 1}},
        {"kind": "Service", "metadata": {"name": "bad"}, "spec": {"type": "LoadBalancer"}},
        {"kind": "ClusterRole", "metadata": {"name": "bad"}},
        {"kind": "ConfigMap", "metadata": {"name": "bad"}, "data": {"url": "redis://:hunter2@redis:6379"}},
    ]
    return Manifests([deployment, job, stateful, *others])


def test_every_rule_can_be_broken() -> None:
    assert {finding.rule for finding in findings("spoilt", spoilt())} == RULES.keys()
