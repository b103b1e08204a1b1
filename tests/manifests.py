"""The manifests as a cluster sees them: rendered by kubectl, and asked for what is in them."""

import base64
import functools
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from intake.settings import IntakeSettings, NotarySettings, NoticesSettings, RelaySettings, WebhooksSettings
from lookup.settings import ArchivistUrl, FiguresUrl, LookupSettings, MigrateSettings
from tests.programs import program

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = sorted(path.parent for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))
KUSTOMIZATIONS = [ROOT / "k8s/base", *OVERLAYS]
SECRETS_EXAMPLE = ROOT / "k8s/secrets.example"

PROCESSES: dict[str, type] = {
    "lookup": LookupSettings,
    "intake": IntakeSettings,
    "relay": RelaySettings,
    "notary": NotarySettings,
    "webhooks": WebhooksSettings,
    "notices": NoticesSettings,
    "migrate": MigrateSettings,
    "tidy": ArchivistUrl,
    "figures": FiguresUrl,
}
CUSTOM = ("cert-manager.io", "cnpg.io", "gateway.networking.k8s.io", "monitoring.coreos.com")
"""How the API groups end that Kubernetes itself does not have."""
CLUSTER_WIDE = ("Namespace", "PriorityClass")
MADE_BY_OPERATORS = {"postgres-ca": {"ca.crt"}, "redis-tls": {"ca.crt", "tls.crt", "tls.key"}}
"""Secrets that operators make, and what is in them."""

Object = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Workload:
    """Whatever makes pods: a Deployment, a StatefulSet, a Job or a CronJob. Every one here has a single container."""

    manifest: Object
    labels: dict[str, str]
    pod: Object
    container: Object

    @classmethod
    def of(cls, manifest: Object) -> "Workload":
        spec: Object = manifest["spec"]
        template: Object = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
        pod: Object = template["spec"]
        containers: list[Object] = pod.get("initContainers", []) + pod["containers"]
        (container,) = containers
        return cls(manifest, template["metadata"]["labels"], pod, container)

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.labels["app.kubernetes.io/name"]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    @property
    def is_ours(self) -> bool:
        return re.split("[:@]", self.container["image"].rsplit("/", 1)[-1])[0] == "hoso24"

    @property
    def is_repeated(self) -> bool:
        """Whether there is more than one pod of it, or an autoscaler sees to it that there is."""
        kind, spec = self.manifest["kind"], self.manifest["spec"]
        return bool(kind not in {"Job", "CronJob"} and spec.get("replicas") != 1)


@dataclass(frozen=True)
class Manifests:
    """Everything one kustomization renders to."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.of(kind)}

    def workloads(self) -> list[Workload]:
        return [Workload.of(each) for each in self.of("Deployment", "StatefulSet", "Job", "CronJob")]

    def ours(self) -> list[Workload]:
        """Our processes and jobs; not what commands are run in."""
        return [each for each in self.workloads() if each.is_ours and each.name != "operate"]

    def operate(self) -> Workload:
        """What k8s/operate makes its Jobs of."""
        return Workload.of(self.one("CronJob", "operate"))

    def serving(self) -> list[Workload]:
        return [workload for workload in self.ours() if workload.manifest["kind"] in {"Deployment", "StatefulSet"}]

    def process(self, name: str) -> Workload:
        (found,) = [workload for workload in self.ours() if workload.name == name]
        return found

    def selected(self, selector: dict[str, str]) -> list[Workload]:
        return [workload for workload in self.workloads() if selector.items() <= workload.labels.items()]

    def policies(self, labels: dict[str, str]) -> Iterator[Object]:
        """The policies that hold for a pod with these labels."""
        for policy in self.of("NetworkPolicy"):
            if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items():
                yield policy["spec"]

    def ingress(self, labels: dict[str, str]) -> list[Object]:
        return [rule for policy in self.policies(labels) for rule in policy.get("ingress", [])]

    def egress(self, labels: dict[str, str]) -> list[Object]:
        return [rule for policy in self.policies(labels) for rule in policy.get("egress", [])]

    def secrets(self) -> dict[str, dict[str, str]]:
        """What is in each Secret, in clear."""
        return {
            each["metadata"]["name"]: {
                key: base64.b64decode(text).decode() for key, text in each.get("data", {}).items()
            }
            for each in self.of("Secret")
        }

    def environment(self, workload: Workload) -> dict[str, str]:
        """What the container finds in its environment, from ConfigMaps and from the manifest itself."""
        config = {each["metadata"]["name"]: each["data"] for each in self.of("ConfigMap")}
        found: dict[str, str] = {}
        for source in workload.container.get("envFrom", []):
            found |= config[source["configMapRef"]["name"]]
        return found | {entry["name"]: entry["value"] for entry in workload.container.get("env", [])}


@functools.cache
def render(kustomization: Path) -> Manifests:
    """What kubectl makes of a kustomization."""
    command = [program("kubectl"), "kustomize", str(kustomization)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Manifests([each for each in yaml.safe_load_all(done.stdout) if each])


def with_components(overlay: Path, folder: Path, *components: str) -> Manifests:
    """An overlay with these components that it does not name; written into this empty folder."""
    base = os.path.relpath(overlay, folder)
    named = ", ".join(os.path.relpath(ROOT / "k8s/components" / each, folder) for each in components)
    (folder / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{named}]\n", "utf-8")
    return render(folder)


def with_secrets(overlay: Path) -> Manifests:
    """An overlay with the Secrets it expects: its own, else those of the example."""
    rendered = render(overlay)
    return rendered if rendered.of("Secret") else Manifests(rendered.objects + render(SECRETS_EXAMPLE).objects)


def mounted_secret_files(workload: Workload) -> dict[str, tuple[str, str]]:
    """Path in the container → (Secret, key), for every secret file it can read."""
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    found = {}
    for mount in workload.container["volumeMounts"]:
        for source in volumes.get(mount["name"], {}).get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                path = PurePosixPath(mount["mountPath"]) / item["path"]
                found[str(path)] = (source["secret"]["name"], item["key"])
    return found


def default(of: type, field: str) -> Any:
    """What a setting is by default."""
    (found,) = [each.default for each in fields(of) if each.name == field]
    return found
