"""The manifests held against Kubernetes' schemas and against the program."""

import ipaddress
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path, PurePosixPath

import aiohttp
import kubernetes_validate
import pytest

import hoso24
from intake.settings import DeskSettings
from lookup import redis_users
from ops import settings
from ops.http import probes, server
from ops.stores.urls import redis_address
from tests.manifests import (
    CLUSTER_WIDE,
    CUSTOM,
    KUSTOMIZATIONS,
    MADE_BY_OPERATORS,
    OVERLAYS,
    PROCESSES,
    ROOT,
    Manifests,
    Object,
    Workload,
    default,
    mounted_secret_files,
    render,
    with_components,
    with_secrets,
)

pytestmark = pytest.mark.servers

KUBERNETES = ["1.27", kubernetes_validate.latest_version()]

SECONDS_FOR_TELEMETRY = 5
SECONDS_OF_MARGIN = 5
VALKEY_SHUTDOWN_SECONDS = 10
"""How long Valkey waits for its replicas on SIGTERM, by default (shutdown-timeout)."""


@pytest.fixture(scope="module", params=KUSTOMIZATIONS, ids=lambda path: path.name)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """The base and every overlay."""
    return render(request.param)


@pytest.fixture(scope="module", params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Manifests:
    """What is really applied, secrets included: only an overlay has image tags and a namespace."""
    return with_secrets(request.param)


def mounted_secrets(workload: Workload) -> set[str]:
    """Which Secrets it can read, other than certificates of authorities."""
    return {secret for secret, _ in mounted_secret_files(workload).values()} - MADE_BY_OPERATORS.keys()


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_passes_the_schema(manifests: Manifests, version: str) -> None:
    for each in manifests.objects:
        if not each["apiVersion"].partition("/")[0].endswith(CUSTOM):  # tests/test_custom_resources.py has those
            kubernetes_validate.validate(each, version, strict=True)


def test_no_two_objects_share_an_identity(manifests: Manifests) -> None:
    identities = Counter(
        (each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in manifests.objects
    )
    assert [identity for identity, times in identities.items() if times > 1] == []


def test_base_has_all_processes_and_jobs(manifests: Manifests) -> None:
    assert sorted(workload.name for workload in manifests.ours()) == sorted(PROCESSES)


def test_everything_of_an_overlay_lives_in_its_own_namespace(overlay: Manifests) -> None:
    (namespace,) = overlay.names("Namespace")
    inside = [each["metadata"] for each in overlay.objects if each["kind"] not in CLUSTER_WIDE]
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


@pytest.mark.parametrize(
    ("process", "role"),
    [("lookup", "reader"), ("intake", "writer"), ("relay", "relay"), ("webhooks", "webhooks"), ("notices", "notices")],
)
def test_process_mounts_the_secret_of_its_own_role_only(manifests: Manifests, process: str, role: str) -> None:
    mounted = mounted_secrets(manifests.process(process))
    assert {secret for secret in mounted if secret.startswith("postgres-")} == {f"postgres-{role}"}


@pytest.mark.parametrize(("job", "role"), [("migrate", "owner"), ("tidy", "archivist"), ("figures", "figures")])
def test_base_gives_a_job_the_secret_of_its_role_only(job: str, role: str) -> None:
    assert mounted_secrets(render(ROOT / "k8s/base").process(job)) == {f"postgres-{role}"}


def test_hourly_job_runs_one_at_a_time_and_not_for_ever(overlay: Manifests) -> None:
    spec = overlay.process("tidy").manifest["spec"]
    assert (spec["schedule"].split()[1:], spec["concurrencyPolicy"], spec.get("suspend", False)) == (
        ["*"] * 4,
        "Forbid",
        False,
    )
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600


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


def test_every_named_secret_file_is_mounted_and_every_mounted_one_is_named(overlay: Manifests) -> None:
    secrets = overlay.secrets()
    for workload in overlay.ours():
        mounted = mounted_secret_files(workload)
        named = {value for name, value in overlay.environment(workload).items() if name.endswith("_FILE")}
        texts = [secrets[secret][key] for secret, key in mounted.values() if secret in secrets]
        named |= {path for text in texts for path in re.findall(r"=(/[^&\s]+)", text)}  # …&sslrootcert=/…
        assert named == mounted.keys()


def test_every_mounted_secret_has_the_key_that_is_mounted(overlay: Manifests) -> None:
    keys = {name: content.keys() for name, content in overlay.secrets().items()} | MADE_BY_OPERATORS
    for workload in overlay.ours():
        for secret, key in mounted_secret_files(workload).values():
            assert key in keys[secret]


def test_nothing_is_allowed_that_no_policy_names(manifests: Manifests) -> None:
    policies = [each["spec"] for each in manifests.of("NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies


def test_admin_ports_open_to_monitoring_alone(manifests: Manifests) -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"hoso24/monitoring": "true"}}}]
    for workload in manifests.serving():
        rules = [rule for rule in manifests.ingress(workload.labels) if opens(rule, "admin", workload)]
        assert [rule["from"] for rule in rules] == [monitoring]


def test_public_ports_open_to_the_edge_alone(manifests: Manifests) -> None:
    edge = [{"namespaceSelector": {"matchLabels": {"hoso24/edge": "true"}}}]
    for workload in manifests.serving():
        rules = [rule for rule in manifests.ingress(workload.labels) if opens(rule, "http", workload)]
        verifiers = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "operate"}}}]
        let_in = [*edge, *(verifiers if workload.name == "notary" else [])]
        assert [rule["from"] for rule in rules] == ([let_in] if "http" in workload.ports else [])


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_stores_let_in_exactly_those_who_may_go_out_to_them(overlay: Manifests, store: str) -> None:
    peers = [peer for rule in overlay.ingress({"hoso24/store": store}) for peer in rule["from"]]
    selected = [peer["podSelector"] for peer in peers if "namespaceSelector" not in peer]
    let_in = {name for each in selected for term in each.get("matchExpressions", []) for name in term["values"]}
    clients = [*overlay.ours(), overlay.operate()]
    assert let_in == {each.name for each in clients if store in stores_reached(overlay, each)}


def test_stores_are_reached_at_the_ports_they_open(overlay: Manifests) -> None:
    for workload in [*overlay.ours(), overlay.operate()]:
        for rule in overlay.egress(workload.labels):
            for peer in rule["to"]:
                if store := peer.get("podSelector", {}).get("matchLabels", {}).get("hoso24/store"):
                    assert ports(rule) <= opened_to(overlay, store, workload)


def opened_to(manifests: Manifests, store: str, workload: Workload) -> set[int]:
    """The ports at which a store lets this process in."""
    names = {name: port for each in manifests.selected({"hoso24/store": store}) for name, port in each.ports.items()}
    return {
        names.get(port["port"], port["port"])
        for rule in manifests.ingress({"hoso24/store": store})
        if any(workload.name in str(peer) for peer in rule["from"])
        for port in rule["ports"]
    }


def ports(rule: Object) -> set[int]:
    return {port["port"] for port in rule["ports"]}


def opens(rule: Object, port: str, workload: Workload) -> bool:
    """Whether the rule lets anyone reach the port, by its name, by its number or by naming none."""
    meant = {port, workload.ports.get(port)}
    return "ports" not in rule or any(each["port"] in meant for each in rule["ports"])


def stores_reached(manifests: Manifests, workload: Workload) -> set[str]:
    peers = [
        peer.get("podSelector", {}).get("matchLabels", {})
        for rule in manifests.egress(workload.labels)
        for peer in rule["to"]
    ]
    return {labels["hoso24/store"] for labels in peers if "hoso24/store" in labels}


def test_every_pod_resolves_names_and_ours_send_traces(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        reached = [(str(rule.get("to")), ports(rule)) for rule in manifests.egress(workload.labels)]
        assert [to for to, numbers in reached if 53 in numbers and "kube-system" in to]
        if workload in manifests.serving():
            assert [to for to, numbers in reached if 4318 in numbers and "hoso24/monitoring" in to]


def test_names_are_resolved_by_the_cluster_the_node_and_openshift(manifests: Manifests) -> None:
    rules = manifests.one("NetworkPolicy", "dns")["spec"]["egress"]
    reached = {
        (str(next(iter(peer.values()))), port["port"], port["protocol"])
        for rule in rules
        for peer in rule["to"]
        for port in rule["ports"]
    }
    for place, number in [("kube-system", 53), ("169.254.20.10/32", 53), ("openshift-dns", 5353)]:
        assert {protocol for where, port, protocol in reached if place in where and port == number} == {"UDP", "TCP"}
    assert len(reached) == 6, "nothing else by this policy"


def test_selectors_find_their_own_pods(manifests: Manifests) -> None:
    for each in manifests.of("Deployment", "StatefulSet"):
        found = manifests.selected(each["spec"]["selector"]["matchLabels"])
        assert [workload.manifest for workload in found] == [each]


def test_pods_are_spread_among_their_own_kind(manifests: Manifests) -> None:
    for workload in (each for each in manifests.serving() if each.is_repeated):
        constraints = workload.pod["topologySpreadConstraints"]
        assert "kubernetes.io/hostname" in {each["topologyKey"] for each in constraints}
        for constraint in constraints:
            assert manifests.selected(constraint["labelSelector"]["matchLabels"]) == [workload]


def test_every_service_targets_a_named_port_that_exists(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        selector = dict(service["spec"]["selector"])
        pod = selector.pop("statefulset.kubernetes.io/pod-name", None)
        (workload,) = manifests.selected(selector)
        for port in service["spec"]["ports"]:
            assert workload.ports[port["targetPort"]] == port["port"]
        if pod is not None:
            assert pod in {f"{workload.name}-{n}" for n in range(workload.manifest["spec"]["replicas"])}


def test_no_service_offers_an_admin_port(manifests: Manifests) -> None:
    offered = {port["targetPort"] for service in manifests.of("Service") for port in service["spec"]["ports"]}
    assert "http" in offered
    assert "admin" not in offered


def test_whatever_has_several_pods_has_a_budget_that_spares_all_but_one(manifests: Manifests) -> None:
    budgets = [each["spec"] for each in manifests.of("PodDisruptionBudget")]
    protected = [each for budget in budgets for each in manifests.selected(budget["selector"]["matchLabels"])]
    repeated = [each for each in manifests.workloads() if each.is_repeated]
    assert sorted(map(repr, protected)) == sorted(map(repr, repeated))
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


@pytest.mark.parametrize("process", ["intake", "relay", "webhooks", "notices"])
def test_process_without_an_autoscaler_runs_at_least_twice(manifests: Manifests, process: str) -> None:
    assert manifests.process(process).manifest["spec"]["replicas"] >= 2


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


def test_valkey_is_given_the_time_to_hand_over(manifests: Manifests) -> None:
    for workload in manifests.selected({"hoso24/store": "redis"}):
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        assert grace >= VALKEY_SHUTDOWN_SECONDS + SECONDS_OF_MARGIN


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


def test_every_secret_a_serving_process_can_have_is_handed_to_it_as_a_file(overlay: Manifests) -> None:
    for workload in overlay.serving():
        declared = [each.metadata for each in fields(PROCESSES[workload.name])]
        secrets = {f"{each['name']}_FILE" for each in declared if each.get("secret")}
        assert secrets == {name for name in overlay.environment(workload) if name.endswith("_FILE")}


def test_lines_of_all_processes_can_be_joined(overlay: Manifests) -> None:
    keys = {
        mounted_secret_files(workload)[overlay.environment(workload)["HOSO24_LOG_HASH_KEY_FILE"]]
        for workload in overlay.serving()
    }
    assert keys == {("log-hash", "keys")}


def test_ports_are_those_the_settings_default_to(manifests: Manifests) -> None:
    for workload in manifests.serving():
        wanted = {"admin": default(PROCESSES[workload.name], "admin_port")}
        if workload.name not in {"relay", "webhooks"}:
            wanted["http"] = default(PROCESSES[workload.name], "port")
        assert workload.ports == wanted
        assert not [name for name in manifests.environment(workload) if name.endswith("_PORT")]


def test_argument_is_a_sub_command(manifests: Manifests) -> None:
    for workload in manifests.ours():
        assert "command" not in workload.container, "the image's entry point is the command"
        assert workload.container["args"] == [workload.name]
        assert workload.name in hoso24.cli.commands


def test_every_process_would_start_with_its_environment(overlay: Manifests, tmp_path: Path) -> None:
    secrets = overlay.secrets()
    for workload in overlay.ours():
        environment = overlay.environment(workload)
        for name, path in environment.items():
            if name.endswith("_FILE"):
                secret, key = mounted_secret_files(workload)[path]
                file = tmp_path / workload.name / PurePosixPath(path).name
                file.parent.mkdir(exist_ok=True)
                file.write_text(secrets[secret][key], "utf-8")
                environment[name] = str(file)
        settings.read(PROCESSES[workload.name], environment)


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8")


def test_image_runs_as_the_user_the_pods_name(manifests: Manifests) -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", dockerfile(), re.MULTILINE)
    for workload in [*manifests.ours(), manifests.operate()]:
        context = workload.pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user))


def test_image_exposes_every_port(manifests: Manifests) -> None:
    (exposed,) = re.findall(r"^EXPOSE (.+)$", dockerfile(), re.MULTILINE)
    ports = {port for workload in manifests.serving() for port in workload.ports.values()}
    assert set(map(int, exposed.split())) == ports


def test_build_context_lets_in_all_that_is_copied_and_nothing_else() -> None:
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE) for word in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert [name for name in sorted(copied) if not (ROOT / name).exists()] == []


def test_valkey_for_development_has_the_users_of_production() -> None:
    overlay = render(ROOT / "k8s/overlays/dev")
    logins = [redis_address(overlay.secrets()[f"redis-{user}"]["url"]).login for user in redis_users.RIGHTS]
    (conf,) = [conf for each in overlay.of("ConfigMap") if (conf := each.get("data", {}).get("valkey.conf"))]
    users = [line for line in conf.splitlines() if line.startswith("user ")]
    assert users == ["user default off", *redis_users.lines({login.user: login.password for login in logins})]


def test_webhooks_reach_the_world_on_443_and_postgres_alone(manifests: Manifests) -> None:
    (policy,) = [each for each in manifests.of("NetworkPolicy") if each["metadata"]["name"] == "webhooks"]
    ports = [sorted(port["port"] for port in rule["ports"]) for rule in policy["spec"]["egress"]]
    assert ports == [[5432], [443], [4318]]
    (outside,) = [rule["to"] for rule in policy["spec"]["egress"] if rule["ports"] == [{"port": 443}]]
    blocks = [block["ipBlock"] for block in outside]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "2000::/3"]
    kept = [ipaddress.ip_network(each) for each in blocks[0]["except"]]
    for inside in ("10.96.0.1", "169.254.169.254", "172.20.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "0.0.0.1"):
        assert any(ipaddress.ip_address(inside) in network for network in kept), inside
    assert [each["ports"] for each in policy["spec"]["ingress"]] == [[{"port": "admin"}]]


def test_notices_reach_mail_servers_the_world_on_443_and_postgres_alone(manifests: Manifests) -> None:
    (policy,) = [each for each in manifests.of("NetworkPolicy") if each["metadata"]["name"] == "notices"]
    ports = [sorted(port["port"] for port in rule["ports"]) for rule in policy["spec"]["egress"]]
    assert ports == [[5432], [465, 587], [443], [4318]]
    (webhooks,) = [each for each in manifests.of("NetworkPolicy") if each["metadata"]["name"] == "webhooks"]
    assert policy["spec"]["egress"][2] == webhooks["spec"]["egress"][1], "the gateway is where webhooks may lead"


def test_papers_have_their_key_at_the_intakes_alone_and_public_keys_at_the_lookups_too(tmp_path: Path) -> None:
    """The component that no overlay names, on top of production."""
    manifests = with_components(ROOT / "k8s/overlays/production", tmp_path, "papers")
    for process, has in (("lookup", {"paper-public-keys"}), ("intake", {"paper-public-keys", "paper-key"})):
        (workload,) = [each for each in manifests.of("Deployment") if each["metadata"]["name"] == process]
        pod = workload["spec"]["template"]["spec"]
        sources = pod["volumes"][0]["projected"]["sources"]
        named = {next(iter(each.values()))["name"] for each in sources}
        assert named & {"paper-public-keys", "paper-key"} == has
        environ = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        for name in ("HOSO24_PAPER_PUBLIC_KEYS", "HOSO24_PAPER_KEY_FILE")[: len(has)]:
            (item,) = [
                item
                for each in sources
                for item in next(iter(each.values()))["items"]
                if f"/etc/hoso24/secrets/{item['path']}" == environ[name]
            ]
            assert item
        assert ("HOSO24_PAPER_KEY_FILE" in environ) == (process == "intake")


def test_desk_is_on_a_host_name_of_its_own_and_its_settings_and_secrets_are_whole(tmp_path: Path) -> None:
    """The components that no overlay names, on top of production."""
    manifests = with_components(ROOT / "k8s/overlays/production", tmp_path, "desk", "papers")
    hosts = {route["metadata"]["name"]: route["spec"]["hostnames"] for route in manifests.of("HTTPRoute")}
    assert not {name for route, names in hosts.items() if route != "desk" for name in names} & set(hosts["desk"])
    (workload,) = [each for each in manifests.of("Deployment") if each["metadata"]["name"] == "desk"]
    pod = workload["spec"]["template"]["spec"]
    container = pod["containers"][0]
    files = {
        f"/etc/hoso24/secrets/{item['path']}"
        for each in pod["volumes"][0]["projected"]["sources"]
        for item in next(iter(each.values()))["items"]
    }
    environ = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert {value for value in environ.values() if value.startswith("/etc/hoso24/secrets/")} <= files
    name = container["envFrom"][0]["configMapRef"]["name"]
    (given,) = [each["data"] for each in manifests.of("ConfigMap") if each["metadata"]["name"] == name]
    known = {name for name, _, _ in settings.table([DeskSettings])}
    assert {each for each in environ if each not in known and each.removesuffix("_FILE") not in known} == set()
    assert given.keys() <= known
    assert {"HOSO24_PG_DESK_URL_FILE", "HOSO24_PAPER_KEY_FILE", "HOSO24_SEAL_KEYS_FILE"} <= environ.keys()
    assert given["HOSO24_DESK_URL"] == f"https://{hosts['desk'][0]}"
    (policy,) = [each for each in manifests.of("NetworkPolicy") if each["metadata"]["name"] == "desk"]
    assert [rule["ports"] for rule in policy["spec"]["egress"]] == [[{"port": port}] for port in (5432, 443, 4318)]
    (postgres,) = [each for each in manifests.of("NetworkPolicy") if each["metadata"]["name"] == "postgres"]
    assert "desk" in postgres["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"]
