"""The manifests as a cluster sees them: rendered, held against Kubernetes' schemas and against the program.

Rendering takes kubectl or kustomize. Without either these tests are skipped, except in CI, where they fail.
"""

import base64
import os
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml

import hoso24
from intake.settings import IntakeSettings, RelaySettings
from lookup.settings import LookupSettings, MigrateSettings
from ops import probes, server, settings

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = sorted(path.parent for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))
KUSTOMIZATIONS = [ROOT / "k8s/base", *OVERLAYS]
KUBERNETES = ["1.27", kubernetes_validate.latest_version()]

PROCESSES: dict[str, type] = {
    "lookup": LookupSettings,
    "intake": IntakeSettings,
    "relay": RelaySettings,
    "migrate": MigrateSettings,
}
SECONDS_FOR_TELEMETRY = 5
SECONDS_OF_MARGIN = 5

Object = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Workload:
    """Whatever makes pods: a Deployment, a StatefulSet or a Job. Every one here has a single container."""

    manifest: Object
    labels: dict[str, str]
    pod: Object
    container: Object

    @classmethod
    def of(cls, manifest: Object) -> "Workload":
        template: Object = manifest["spec"]["template"]
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


@dataclass(frozen=True)
class Manifests:
    """Everything one kustomization renders to."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.of(kind)}

    def workloads(self) -> list[Workload]:
        return [Workload.of(each) for each in self.of("Deployment", "StatefulSet", "Job")]

    def ours(self) -> list[Workload]:
        return [workload for workload in self.workloads() if workload.is_ours]

    def serving(self) -> list[Workload]:
        return [workload for workload in self.ours() if workload.manifest["kind"] == "Deployment"]

    def process(self, name: str) -> Workload:
        (found,) = [workload for workload in self.ours() if workload.name == name]
        return found

    def selected(self, selector: dict[str, str]) -> list[Workload]:
        return [workload for workload in self.workloads() if selector.items() <= workload.labels.items()]

    def environment(self, workload: Workload) -> dict[str, str]:
        """What the container finds in its environment, from ConfigMaps and from the manifest itself."""
        config = {each["metadata"]["name"]: each["data"] for each in self.of("ConfigMap")}
        found: dict[str, str] = {}
        for source in workload.container.get("envFrom", []):
            found |= config[source["configMapRef"]["name"]]
        return found | {entry["name"]: entry["value"] for entry in workload.container.get("env", [])}


def render(kustomization: Path) -> Manifests:
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    elif os.environ.get("CI"):
        pytest.fail("CI has neither kubectl nor kustomize: nobody would notice a broken manifest")
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    done = subprocess.run([*command, str(kustomization)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Manifests([each for each in yaml.safe_load_all(done.stdout) if each])


@pytest.fixture(scope="module", params=KUSTOMIZATIONS, ids=lambda path: path.name)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """The base and every overlay."""
    return render(request.param)


@pytest.fixture(scope="module", params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Manifests:
    """What is really applied: only an overlay has secrets, image tags and a namespace."""
    return render(request.param)


def mounted_secret_files(workload: Workload) -> dict[str, tuple[str, str]]:
    """Path in the container → (Secret, key), for every secret file it can read."""
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    found = {}
    for mount in workload.container["volumeMounts"]:
        for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                path = PurePosixPath(mount["mountPath"]) / item["path"]
                found[str(path)] = (source["secret"]["name"], item["key"])
    return found


def mounted_secrets(workload: Workload) -> set[str]:
    return {secret for secret, _ in mounted_secret_files(workload).values()}


def default(of: type, field: str) -> Any:
    (found,) = [each.default for each in fields(of) if each.name == field]
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_passes_the_schema(manifests: Manifests, version: str) -> None:
    for each in manifests.objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_no_two_objects_share_an_identity(manifests: Manifests) -> None:
    identities = Counter(
        (each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in manifests.objects
    )
    assert [identity for identity, times in identities.items() if times > 1] == []


def test_base_has_all_four_processes(manifests: Manifests) -> None:
    assert sorted(workload.name for workload in manifests.ours()) == sorted(PROCESSES)


def test_everything_of_an_overlay_lives_in_its_own_namespace(overlay: Manifests) -> None:
    (namespace,) = overlay.names("Namespace")
    inside = [each["metadata"] for each in overlay.objects if each["kind"] != "Namespace"]
    assert {metadata.get("namespace") for metadata in inside} == {namespace}


def test_migration_carries_the_image_tag(overlay: Manifests) -> None:
    migrate = overlay.process("migrate")
    tag = migrate.container["image"].rsplit(":", 1)[1]
    assert migrate.manifest["metadata"]["name"] == f"migrate-{tag}"


def test_every_container_meets_the_restricted_standard(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        pod, container = workload.pod["securityContext"], workload.container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & workload.pod.keys()
        assert not [volume for volume in workload.pod["volumes"] if "hostPath" in volume]


def test_no_pod_is_handed_a_token_or_the_addresses_of_services(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        assert workload.pod["automountServiceAccountToken"] is False
        assert workload.pod["enableServiceLinks"] is False


def test_namespace_enforces_the_restricted_standard(overlay: Manifests) -> None:
    (namespace,) = overlay.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("process", "role"), [("lookup", "reader"), ("intake", "writer"), ("relay", "relay")])
def test_process_mounts_the_secret_of_its_own_role_only(manifests: Manifests, process: str, role: str) -> None:
    mounted = mounted_secrets(manifests.process(process))
    assert {secret for secret in mounted if secret.startswith("postgres-")} == {f"postgres-{role}"}


def test_base_gives_the_migration_the_owner_only() -> None:
    assert mounted_secrets(render(ROOT / "k8s/base").process("migrate")) == {"postgres-owner"}


def test_secrets_reach_our_processes_as_files_of_one_directory(manifests: Manifests) -> None:
    for workload in manifests.ours():
        assert not [entry for entry in workload.container.get("env", []) if "valueFrom" in entry]
        assert not [source for source in workload.container.get("envFrom", []) if "secretRef" in source]
        assert {kind for each in workload.pod["volumes"] for kind in each.keys() - {"name"}} == {
            "projected",
            "emptyDir",
        }
        parents = {str(PurePosixPath(path).parent) for path in mounted_secret_files(workload)}
        assert parents == {"/etc/hoso24/secrets"}


def test_every_named_secret_file_is_mounted_and_every_mounted_one_is_named(manifests: Manifests) -> None:
    for workload in manifests.ours():
        environment = manifests.environment(workload)
        named = {value for name, value in environment.items() if name.endswith("_FILE")}
        assert named == mounted_secret_files(workload).keys()


def test_every_mounted_secret_has_the_key_that_is_mounted(overlay: Manifests) -> None:
    keys = {each["metadata"]["name"]: each["data"].keys() for each in overlay.of("Secret")}
    for workload in overlay.ours():
        for secret, key in mounted_secret_files(workload).values():
            assert key in keys[secret]


def test_nothing_is_allowed_that_no_policy_names(manifests: Manifests) -> None:
    policies = [each["spec"] for each in manifests.of("NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies


def test_admin_ports_open_to_monitoring_alone(manifests: Manifests) -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"hoso24/monitoring": "true"}}}]
    for workload in manifests.serving():
        rules = [rule for rule in ingress_of(manifests, workload) if opens(rule, "admin", workload)]
        assert [rule["from"] for rule in rules] == [monitoring]


def test_public_ports_open_to_the_edge_alone(manifests: Manifests) -> None:
    edge = [{"namespaceSelector": {"matchLabels": {"hoso24/edge": "true"}}}]
    for workload in manifests.serving():
        rules = [rule for rule in ingress_of(manifests, workload) if opens(rule, "http", workload)]
        assert [rule["from"] for rule in rules] == ([edge] if "http" in workload.ports else [])


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_stores_let_in_exactly_those_who_may_go_out_to_them(overlay: Manifests, store: str) -> None:
    (workload,) = overlay.selected({"hoso24/store": store})
    peers = [peer["podSelector"] for rule in ingress_of(overlay, workload) for peer in rule["from"]]
    let_in = {name for peer in peers for name in peer["matchExpressions"][0]["values"]}
    assert let_in == {ours.name for ours in overlay.ours() if store in stores_reached(overlay, ours)}


def policies_of(manifests: Manifests, workload: Workload) -> Iterator[Object]:
    for policy in manifests.of("NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        if selector.items() <= workload.labels.items():
            yield policy["spec"]


def ingress_of(manifests: Manifests, workload: Workload) -> list[Object]:
    return [rule for policy in policies_of(manifests, workload) for rule in policy.get("ingress", [])]


def opens(rule: Object, port: str, workload: Workload) -> bool:
    """Whether the rule lets anyone reach the port, by its name, by its number or by naming none."""
    meant = {port, workload.ports.get(port)}
    return "ports" not in rule or any(each["port"] in meant for each in rule["ports"])


def stores_reached(manifests: Manifests, workload: Workload) -> set[str]:
    peers = [
        peer.get("podSelector", {}).get("matchLabels", {})
        for policy in policies_of(manifests, workload)
        for rule in policy.get("egress", [])
        for peer in rule["to"]
    ]
    return {labels["hoso24/store"] for labels in peers if "hoso24/store" in labels}


def test_selectors_find_their_own_pods(manifests: Manifests) -> None:
    for each in manifests.of("Deployment", "StatefulSet"):
        found = manifests.selected(each["spec"]["selector"]["matchLabels"])
        assert [workload.manifest for workload in found] == [each]


def test_pods_are_spread_among_their_own_kind(manifests: Manifests) -> None:
    for workload in manifests.serving():
        constraints = workload.pod["topologySpreadConstraints"]
        assert "kubernetes.io/hostname" in {each["topologyKey"] for each in constraints}
        for constraint in constraints:
            assert manifests.selected(constraint["labelSelector"]["matchLabels"]) == [workload]


def test_every_service_targets_a_named_port_that_exists(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        (workload,) = manifests.selected(service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert workload.ports[port["targetPort"]] == port["port"]


def test_no_service_offers_an_admin_port(manifests: Manifests) -> None:
    offered = {port["targetPort"] for service in manifests.of("Service") for port in service["spec"]["ports"]}
    assert "http" in offered
    assert "admin" not in offered


def test_every_serving_process_has_a_budget_that_spares_all_pods_but_one(manifests: Manifests) -> None:
    budgets = [each["spec"] for each in manifests.of("PodDisruptionBudget")]
    protected = [each for budget in budgets for each in manifests.selected(budget["selector"]["matchLabels"])]
    assert sorted(map(repr, protected)) == sorted(map(repr, manifests.serving()))
    assert {budget["maxUnavailable"] for budget in budgets} == {1}


def test_autoscaler_alone_owns_the_number_of_the_pods_it_scales(manifests: Manifests) -> None:
    (autoscaler,) = [each["spec"] for each in manifests.of("HorizontalPodAutoscaler")]
    target = autoscaler["scaleTargetRef"]
    (scaled,) = [
        each
        for each in manifests.of(target["kind"])
        if (each["apiVersion"], each["metadata"]["name"]) == (target["apiVersion"], target["name"])
    ]
    assert "replicas" not in scaled["spec"]
    assert 2 <= autoscaler["minReplicas"] <= autoscaler["maxReplicas"]


@pytest.mark.parametrize("process", ["intake", "relay"])
def test_process_without_an_autoscaler_runs_twice(manifests: Manifests, process: str) -> None:
    assert manifests.process(process).manifest["spec"]["replicas"] == 2


def test_every_container_asks_for_resources_and_is_never_throttled(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        resources = workload.container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}


async def test_probes_ask_the_admin_port_for_what_it_answers(manifests: Manifests) -> None:
    wanted = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for workload in manifests.serving():
        asked = {kind: workload.container[kind]["httpGet"] for kind in wanted}
        assert asked == {kind: {"path": path, "port": "admin"} for kind, path in wanted.items()}

    admin = probes.Admin("manifests", probes.State())
    try:
        await admin.listen("127.0.0.1", 0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as client:
            for path in wanted.values():
                async with client.get(path) as answer:
                    assert answer.status in {200, 503}
    finally:
        await admin.stop()


def test_grace_period_covers_all_that_happens_after_sigterm(manifests: Manifests) -> None:
    for workload in manifests.serving():
        waiting = pre_stop_seconds(workload) + drain_seconds(manifests, workload)
        finishing = server.GRACE + 2 * server.STOPPING + SECONDS_FOR_TELEMETRY
        assert waiting + finishing + SECONDS_OF_MARGIN <= workload.pod["terminationGracePeriodSeconds"]


def test_draining_outlasts_the_failing_of_readiness(manifests: Manifests) -> None:
    for workload in manifests.serving():
        readiness = workload.container["readinessProbe"]
        noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
        if "http" in workload.ports:
            assert noticed < drain_seconds(manifests, workload)


def pre_stop_seconds(workload: Workload) -> int:
    """Of the sleep action; how long any other hook takes cannot be read from a manifest."""
    hook = workload.container.get("lifecycle", {}).get("preStop")
    return 0 if hook is None else int(hook["sleep"]["seconds"])


def drain_seconds(manifests: Manifests, workload: Workload) -> float:
    said = manifests.environment(workload).get("HOSO24_DRAIN_SECONDS")
    return float(said if said is not None else default(PROCESSES[workload.name], "drain_seconds"))


def test_every_variable_is_a_setting_of_its_process(manifests: Manifests) -> None:
    for workload in manifests.ours():
        known = {name for name, _, _ in settings.table([PROCESSES[workload.name]])}
        named = {name.removesuffix("_FILE") for name in manifests.environment(workload)}
        assert {name for name in named if not name.startswith("OTEL_")} <= known


def test_ports_are_those_the_settings_default_to(manifests: Manifests) -> None:
    for workload in manifests.serving():
        wanted = {"admin": default(PROCESSES[workload.name], "admin_port")}
        if workload.name != "relay":
            wanted["http"] = default(PROCESSES[workload.name], "port")
        assert workload.ports == wanted
        assert not [name for name in manifests.environment(workload) if name.endswith("_PORT")]


def test_argument_is_a_sub_command(manifests: Manifests) -> None:
    for workload in manifests.ours():
        assert "command" not in workload.container, "the image's entry point is the command"
        assert workload.container["args"] == [workload.name]
        assert workload.name in hoso24.cli.commands


def test_every_process_would_start_with_its_environment(overlay: Manifests, tmp_path: Path) -> None:
    secrets = {each["metadata"]["name"]: each["data"] for each in overlay.of("Secret")}
    for workload in overlay.ours():
        environment = overlay.environment(workload)
        for name, path in environment.items():
            if name.endswith("_FILE"):
                secret, key = mounted_secret_files(workload)[path]
                file = tmp_path / workload.name / PurePosixPath(path).name
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(base64.b64decode(secrets[secret][key]))
                environment[name] = str(file)
        settings.read(PROCESSES[workload.name], environment)


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8")


def test_image_runs_as_the_user_the_pods_name(manifests: Manifests) -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", dockerfile(), re.MULTILINE)
    for workload in manifests.ours():
        context = workload.pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user))


def test_image_exposes_every_port(manifests: Manifests) -> None:
    (exposed,) = re.findall(r"^EXPOSE (.+)$", dockerfile(), re.MULTILINE)
    ports = {port for workload in manifests.serving() for port in workload.ports.values()}
    assert set(map(int, exposed.split())) == ports


def test_image_holds_every_package_there_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for floor in ("ops", "lookup", "intake")
        for path in (ROOT / floor).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found


def test_build_context_lets_in_all_that_is_copied_and_nothing_else() -> None:
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE) for word in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert [name for name in sorted(copied) if not (ROOT / name).exists()] == []
