"""The production overlay: what its parts promise each other, the program, and the worst hour."""

import base64
import hashlib
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest

from intake.api import ABOUT, IntakeApi
from intake.notices import app as notices_app
from intake.partners import webhooks_app
from intake.settings import IntakeSettings
from lookup import redis_users, schema
from lookup.schema import grants
from lookup.settings import LookupSettings
from lookup.upkeep.doctor import OF_THE_SITE
from lookup.web import api, pages
from ops.doctor.certificate_checks import DAYS_REMARKED
from ops.http import probes
from ops.http.client_address import Networks
from ops.http.developer_pages import DeveloperPages
from ops.stores.urls import redis_address
from tests.manifests import (
    MADE_BY_OPERATORS,
    ROOT,
    SECRETS_EXAMPLE,
    Manifests,
    Object,
    default,
    mounted_secret_files,
    render,
    with_secrets,
)

pytestmark = pytest.mark.servers

WORST_HOUR = 23_900
"""Lookups a second of distinct codes (design.md §7: 85.95 million insured people within one hour)."""
OPERATORS_CONNECTIONS = 10
"""CloudNativePG's own and those reserved for superusers, generously."""
SECONDS_OF_A_YEAR = 31_536_000
POSTGRES_LABELS = {"hoso24/store": "postgres"}
SIZES = {"Mi": 2**20, "Gi": 2**30, "mb": 2**20, "gb": 2**30}


@pytest.fixture(scope="module")
def production() -> Manifests:
    return with_secrets(ROOT / "k8s/overlays/production")


@pytest.fixture(scope="module")
def cluster(production: Manifests) -> Object:
    spec: Object = production.one("Cluster", "postgres")["spec"]
    return spec


def test_images_can_be_pinned_by_digest(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s/overlays/production"
    text = (overlay / "kustomization.yaml").read_text("utf-8")
    digest = "sha256:" + 64 * "a"
    pinned = re.sub(r"^( +)(newTag: .*)$", rf"\1\2\n\1digest: {digest}", text, flags=re.MULTILINE)
    (overlay / "kustomization.yaml").write_text(pinned, "utf-8")
    manifests = render(overlay)
    assert [each.name for each in manifests.workloads() if not each.container["image"].endswith(f"@{digest}")] == []
    (migration,) = manifests.names("Job")
    assert re.fullmatch(r"migrate-[a-z0-9-]{1,50}", migration)


# -- PostgreSQL ------------------------------------------------------------------------------------------


def test_an_acknowledged_commit_is_on_two_disks(cluster: Object) -> None:
    assert cluster["instances"] == 3
    synchronous = cluster["postgresql"]["synchronous"]
    assert synchronous == {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}


def test_cluster_makes_roles_and_closes_functions_as_the_schema_wants_it(
    production: Manifests, cluster: Object
) -> None:
    copies = production.one("ConfigMap", "postgres-roles")["data"]
    for name in ("roles.sql", "functions.sql"):
        assert copies[name] == (Path(schema.__file__).parent / name).read_text("utf-8")
    initdb = cluster["bootstrap"]["initdb"]
    run = {
        kind: [ref["key"] for ref in refs["configMapRefs"]] for kind, refs in initdb.items() if kind.endswith("Refs")
    }
    assert run == {"postInitSQLRefs": ["roles.sql"], "postInitApplicationSQLRefs": ["functions.sql"]}


def test_operator_leaves_the_memberships_that_roles_sql_makes(cluster: Object) -> None:
    listed = {role["name"]: role["inRoles"] for role in cluster["managed"]["roles"] if "inRoles" in role}
    assert listed == {member: [group] for member, (group, _) in grants.memberships().items()}


def test_every_role_has_its_password_and_there_is_no_other(production: Manifests, cluster: Object) -> None:
    array = re.search(r"(?s)ARRAY\[(.*?)\]", production.one("ConfigMap", "postgres-roles")["data"]["roles.sql"])
    assert array
    logins = {role["name"]: role["passwordSecret"]["name"] for role in cluster["managed"]["roles"] if role["login"]}
    initdb = cluster["bootstrap"]["initdb"]
    logins[initdb["owner"]] = initdb["secret"]["name"]
    assert logins.keys() == set(re.findall(r"'(\w+)'", array[1]))
    for role, secret in logins.items():
        assert production.secrets()[secret]["username"] == role
        assert not {"superuser", "createdb", "createrole", "replication", "bypassrls"} & {
            key for each in cluster["managed"]["roles"] for key, value in each.items() if value is True
        }


@pytest.mark.parametrize("role", grants.NAMES)
def test_process_and_server_are_told_the_same(production: Manifests, cluster: Object, role: str) -> None:
    secrets = production.secrets()
    url = urlsplit(secrets[f"postgres-{role}"]["url"].strip())
    login = secrets[f"postgres-{role}-login"]
    assert (url.username, unquote(url.password or "")) == (login["username"], login["password"])
    assert url.path == f"/{cluster['bootstrap']['initdb']['database']}"
    hosts = {host.partition(":")[0] for host in url.netloc.rpartition("@")[2].split(",")}
    assert hosts == ({"postgres-ro", "postgres-rw"} if role == "reader" else {"postgres-rw"})
    assert "sslmode=verify-full" in url.query


def test_postgres_has_room_for_all_the_connections_there_can_be(production: Manifests, cluster: Object) -> None:
    lookups = production.one("HorizontalPodAutoscaler", "lookup")["spec"]["maxReplicas"] * 1.25  # maxSurge
    intakes = production.process("intake").manifest["spec"]["replicas"] + 1
    relays = production.process("relay").manifest["spec"]["replicas"] + 1
    wanted = (
        lookups * default(LookupSettings, "pg_queries")
        + intakes * default(IntakeSettings, "pg_connections")
        + relays * 2
        + 3 * (webhooks_app.CONNECTIONS + notices_app.CONNECTIONS)
        + 1  # the migration
        + OPERATORS_CONNECTIONS
    )
    assert wanted <= int(cluster["postgresql"]["parameters"]["max_connections"])


def test_backups_go_where_the_log_goes(production: Manifests, cluster: Object) -> None:
    (archiver,) = [plugin for plugin in cluster["plugins"] if plugin["isWALArchiver"]]
    nightly = production.one("ScheduledBackup", "postgres-nightly")["spec"]
    assert nightly["method"] == "plugin"
    assert nightly["pluginConfiguration"]["name"] == archiver["name"]
    assert nightly["cluster"]["name"] in production.names("Cluster")
    assert len(nightly["schedule"].split()) == 6, "seconds come first"
    assert archiver["parameters"]["barmanObjectName"] in production.names("ObjectStore")


def test_operator_and_replicas_reach_postgres(production: Manifests) -> None:
    reaching: dict[str, set[Any]] = {"cnpg-system": set(), "hoso24/store": set(), "hoso24/monitoring": set()}
    for rule in production.ingress(POSTGRES_LABELS):
        for who, numbers in reaching.items():
            if who in str(rule["from"]):
                numbers |= {port["port"] for port in rule["ports"]}
    assert reaching == {"cnpg-system": {5432, 8000}, "hoso24/store": {5432, 8000}, "hoso24/monitoring": {9187}}
    out = [rule for rule in production.egress(POSTGRES_LABELS) if "to" not in rule]
    assert [{port["port"] for port in rule["ports"]} for rule in out] == [{443, 6443}]


# -- Valkey and Sentinel ---------------------------------------------------------------------------------


def redis_file(name: str) -> str:
    return (ROOT / "k8s/components/redis-sentinel" / name).read_text("utf-8")


def test_client_is_told_where_the_sentinels_are_and_whom_to_ask_for(production: Manifests) -> None:
    url = urlsplit(production.secrets()["redis-lookup"]["url"].strip())
    assert url.scheme == "rediss+sentinel"
    places = dict(place.split(":") for place in url.netloc.rpartition("@")[2].split(","))
    services = {
        service["metadata"]["name"]: str(service["spec"]["ports"][0]["port"])
        for service in production.of("Service")
        if service["metadata"]["name"].startswith("sentinel-node-")
    }
    assert places == services
    (monitored,) = set(re.findall(r"sentinel monitor (\w+)", redis_file("start-sentinel")))
    assert url.path == f"/{monitored}"
    assert set(re.findall(r"^sentinel [a-z-]+ (hoso24|\w+) \d", redis_file("sentinel.conf"), re.MULTILINE)) == {
        monitored
    }


def test_client_and_sentinels_are_told_the_same_password(production: Manifests) -> None:
    login = redis_address(production.secrets()["redis-lookup"]["url"].strip()).sentinel_login
    script = redis_file("start-sentinel")
    assert f'"user {login.user} on $(passwords sentinel-client-password)' in script
    assert login.password == production.secrets()["redis-server"]["sentinel-client-password"]
    assert 'echo "user default off"' in script


@pytest.mark.parametrize("name", ["redis", "sentinel"])
def test_start_script_finds_every_password_it_reads(production: Manifests, name: str) -> None:
    (auth,) = [
        each["secret"]
        for each in production.one("StatefulSet", name)["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "auth"
    ]
    read = set(re.findall(r"([a-z-]+-password)\b", redis_file(f"start-{name}") + redis_file("common.sh")))
    assert read == {item["path"] for item in auth["items"]} - {"users.acl"}


def test_more_than_half_of_the_sentinels_must_agree(production: Manifests) -> None:
    sentinels = production.one("StatefulSet", "sentinel")["spec"]["replicas"]
    (quorum,) = map(int, re.findall(r"sentinel monitor .* (\d+)\"", redis_file("start-sentinel")))
    assert sentinels // 2 + 1 == quorum
    assert f"for each in {' '.join(map(str, [*range(sentinels)] * 2))};" in redis_file("common.sh")


def test_every_valkey_and_sentinel_has_an_address_that_stays(production: Manifests) -> None:
    for name in ("redis", "sentinel"):
        for number in range(production.one("StatefulSet", name)["spec"]["replicas"]):
            service = production.one("Service", f"{name}-node-{number}")["spec"]
            assert service["selector"]["statefulset.kubernetes.io/pod-name"] == f"{name}-{number}"
            assert service["publishNotReadyAddresses"] is True
            assert "clusterIP" not in service, "a headless Service has the pod's own address, which changes"


CERTIFICATE = MADE_BY_OPERATORS["redis-tls"]


def test_no_probe_begins_a_tls_handshake_and_leaves(production: Manifests) -> None:
    for workload in production.selected({"hoso24/store": "redis"}):
        (port,) = workload.ports.values()
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = workload.container.get(kind, {"exec": {"command": []}})
            assert "tcpSocket" not in probe
            command = probe["exec"]["command"]
            if command and command[1].endswith("/answers"):
                assert command[2:] == [str(port)]
            assert not command or redis_file(command[1].rpartition("/")[2])


@pytest.mark.parametrize("name", ["redis", "sentinel"])
def test_valkey_and_sentinel_show_a_certificate_and_take_nothing_without_tls(production: Manifests, name: str) -> None:
    (workload,) = production.selected({"app.kubernetes.io/name": name})
    mounts = {each["name"]: each["mountPath"] for each in workload.container["volumeMounts"]}
    (shown,) = [each["secret"] for each in workload.pod["volumes"] if each["name"] == "tls"]
    assert {item["key"] for item in shown["items"]} == {item["path"] for item in shown["items"]} == CERTIFICATE
    assert shown["secretName"] == production.one("Certificate", "redis")["spec"]["secretName"]
    script = redis_file(workload.container["command"][1].rpartition("/")[2])
    assert f"[ -e {mounts['tls']}/tls.crt ]" in redis_file("common.sh")
    assert f"$(listening {next(iter(workload.ports.values()))})" in script
    assert "on_renewal" in script


def test_certificate_of_valkey_is_its_authority_s_and_renewed_before_the_doctor_remarks(production: Manifests) -> None:
    issuers = {each["metadata"]["name"]: each["spec"] for each in production.of("Issuer")}
    shown, authority = (production.one("Certificate", name)["spec"] for name in ("redis", "redis-authority"))
    assert issuers[shown["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}
    assert authority["isCA"] is True
    assert authority["privateKey"]["rotationPolicy"] == "Never"  # or renewing it would cut everybody off
    assert "isCA" not in shown
    assert int(shown["renewBefore"].removesuffix("h")) >= 24 * DAYS_REMARKED
    # Only the authority's certificate is mounted where it has to be trusted; its key is mounted nowhere.
    assert authority["secretName"] not in {secret for secret, _ in references(production.objects)}


@pytest.mark.parametrize("process", ["lookup", "relay"])
def test_process_believes_valkey_by_its_authority_alone(production: Manifests, process: str) -> None:
    url = production.secrets()[f"redis-{process}"]["url"].strip()
    trust = redis_address(url).trust
    assert trust is not None
    assert mounted_secret_files(production.process(process))[str(trust.ca)] == ("redis-tls", "ca.crt")
    assert trust.check_hostname is False  # Sentinels announce addresses that no certificate can name beforehand


def test_passwords_are_those_that_valkey_lets_in(production: Manifests) -> None:
    secrets = production.secrets()
    logins = [redis_address(secrets[f"redis-{user}"]["url"].strip()).login for user in redis_users.RIGHTS]
    passwords = {login.user: login.password for login in logins} | {
        "admin": secrets["redis-server"]["admin-password"],
        "replica": secrets["redis-server"]["replica-password"],
        "sentinel": secrets["redis-server"]["sentinel-password"],
    }
    acl = secrets["redis-server"]["users.acl"].splitlines()
    assert acl[:4] == ["user default off", *redis_users.lines(passwords)]
    users = dict(re.findall(r"^user (\w+) on (.*)$", "\n".join(acl), re.MULTILINE))
    assert passwords.keys() == users.keys() - {"probe"}
    for user, password in passwords.items():
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in users[user].split()


def test_stream_is_never_evicted_and_memory_suffices(production: Manifests) -> None:
    assert "\nmaxmemory-policy volatile-lru\n" in redis_file("valkey.conf")
    (amount, unit) = re.findall(r"^maxmemory (\d+)(\w+)$", redis_file("valkey.conf"), re.MULTILINE)[0]
    resources = production.one("StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]["resources"]
    most = int(amount) * SIZES[unit]
    assert most * 1.5 <= size(resources["requests"]["memory"])
    assert most * 2 <= size(resources["limits"]["memory"])


def size(text: str) -> int:
    return int(text[:-2]) * SIZES[text[-2:]]


@pytest.mark.parametrize("process", ["lookup", "relay"])
def test_policy_lets_the_process_ask_the_sentinels(production: Manifests, process: str) -> None:
    labels = production.process(process).labels
    (rule,) = [rule for rule in production.egress(labels) if "'hoso24/store': 'redis'" in str(rule["to"])]
    assert [port["port"] for port in rule["ports"]] == [6379, 26379]


# -- the worst hour --------------------------------------------------------------------------------------


def cold_lookups_a_second() -> float:
    """Lookups a second that one process answered for codes in no cache, by the bench's last run."""
    results = (ROOT / "loadtests/bench/RESULTS.md").read_text("utf-8")
    (figure,) = re.findall(r"^\| cold \| ours \| \d+ \| ([\d,]+) \|", results, re.MULTILINE)
    return float(figure.replace(",", ""))


def test_floor_carries_the_worst_hour_and_the_ceiling_carries_it_at_ease(production: Manifests) -> None:
    autoscaler = production.one("HorizontalPodAutoscaler", "lookup")["spec"]
    (metric,) = autoscaler["metrics"]
    aim = metric["resource"]["target"]["averageUtilization"] / 100
    assert autoscaler["minReplicas"] * cold_lookups_a_second() >= WORST_HOUR
    assert autoscaler["maxReplicas"] * cold_lookups_a_second() * aim >= 1.5 * WORST_HOUR


def test_autoscaler_measures_cpu_of_one_core_for_one_loop(production: Manifests) -> None:
    (metric,) = production.one("HorizontalPodAutoscaler", "lookup")["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert production.process("lookup").container["resources"]["requests"]["cpu"] == "1"


def test_every_pod_of_worth_has_a_priority_that_exists(production: Manifests, cluster: Object) -> None:
    classes = {each["metadata"]["name"]: each["value"] for each in production.of("PriorityClass")}
    given = {each.name: each.pod.get("priorityClassName") for each in production.workloads()}
    assert given.pop("migrate") is None
    assert cluster["priorityClassName"] == given["redis"] == given["sentinel"] == "hoso24-store"
    assert {given[name] for name in ("lookup", "intake", "relay")} == {"hoso24-serving"}
    assert classes["hoso24-store"] > classes["hoso24-serving"] > 0


# -- what the cluster has to have ------------------------------------------------------------------------

SMALL_NODES, NODE_CORES, NODE_MEMORY = 3, 4, 16 * 2**30
LEFT_FOR_OTHERS = 0.35
"""The share of the small nodes for the kubelet, operators, gateway, monitoring, and pods during a rollout."""


def cores(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def floor(manifests: Manifests) -> tuple[float, float]:
    """Cores and bytes that all pods request at the autoscaler's minimum, PostgreSQL's with their sidecars."""
    found = []
    minimum = manifests.one("HorizontalPodAutoscaler", "lookup")["spec"]["minReplicas"]
    for workload in manifests.workloads():
        if workload.manifest["kind"] in {"Deployment", "StatefulSet"}:
            count = workload.manifest["spec"].get("replicas", minimum)
            found.append((count, workload.container["resources"]["requests"]))
    for cluster in manifests.of("Cluster"):
        found.append((cluster["spec"]["instances"], cluster["spec"]["resources"]["requests"]))
        for store in manifests.of("ObjectStore"):
            sidecar = store["spec"]["instanceSidecarConfiguration"]["resources"]["requests"]
            found.append((cluster["spec"]["instances"], sidecar))
    return (
        sum(count * cores(requests["cpu"]) for count, requests in found),
        sum(count * size(requests["memory"]) for count, requests in found),
    )


@pytest.mark.parametrize("overlay", ["production", "small", "dev"])
def test_installation_guide_states_what_is_requested_at_the_floor(overlay: str) -> None:
    cpu, memory = floor(render(ROOT / "k8s/overlays" / overlay))
    stated = re.findall(
        rf"^\| `overlays/{overlay}` \| ([\d.]+) \| ([\d.]+) GiB \|", (ROOT / "k8s/README.md").read_text("utf-8"), re.M
    )
    assert stated == [(f"{cpu:.2f}", f"{memory / 2**30:.1f}")]


def test_small_overlay_fits_its_nodes_with_room_and_stands_on_all_three() -> None:
    small = render(ROOT / "k8s/overlays/small")
    cpu, memory = floor(small)
    assert cpu <= SMALL_NODES * NODE_CORES * (1 - LEFT_FOR_OTHERS)
    assert memory <= SMALL_NODES * NODE_MEMORY * (1 - LEFT_FOR_OTHERS)
    assert small.one("Cluster", "postgres")["spec"]["instances"] == SMALL_NODES
    parameters = small.one("Cluster", "postgres")["spec"]["postgresql"]["parameters"]
    assert 4 * int(parameters["shared_buffers"][:-2]) * 2**30 <= size(
        small.one("Cluster", "postgres")["spec"]["resources"]["limits"]["memory"]
    )


def test_small_autoscaler_aims_at_the_same_share_of_a_core(production: Manifests) -> None:
    aims = []
    for manifests in (production, render(ROOT / "k8s/overlays/small")):
        (metric,) = manifests.one("HorizontalPodAutoscaler", "lookup")["spec"]["metrics"]
        share = metric["resource"]["target"]["averageUtilization"] / 100
        aims.append(share * cores(manifests.process("lookup").container["resources"]["requests"]["cpu"]))
    assert aims[0] == aims[1]


# -- the edge --------------------------------------------------------------------------------------------


def test_routes_lead_to_services_that_exist(production: Manifests) -> None:
    for route in production.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                service = production.one("Service", backend["name"])
                assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}


def test_citizens_name_is_the_one_on_the_receipts(production: Manifests) -> None:
    (name,) = production.one("HTTPRoute", "lookup")["spec"]["hostnames"]
    for process in ("lookup", "intake", "notices"):
        assert production.environment(production.process(process))["HOSO24_PUBLIC_URL"] == f"https://{name}"


def test_pages_name_who_runs_the_site(production: Manifests) -> None:
    environment = production.environment(production.process("lookup"))
    assert [name for name in OF_THE_SITE if not environment.get(name)] == []


def test_intake_s_route_has_all_of_its_paths(production: Manifests) -> None:
    (rule,) = production.one("HTTPRoute", "intake")["spec"]["rules"]
    routed = [(match["path"]["type"], PurePosixPath(match["path"]["value"])) for match in rule["matches"]]
    nothing: Any = None
    pages = DeveloperPages(ABOUT, IntakeApi(nothing, nothing, nothing, "").endpoints())
    routes: list[Any] = [*pages.endpoints, *pages.routes()]
    paths = [PurePosixPath(route.path) for route in routes]
    assert len(paths) > 3

    def is_routed(path: PurePosixPath) -> bool:
        return any(path == at or (how == "PathPrefix" and at in path.parents) for how, at in routed)

    assert [path for path in paths if not is_routed(path)] == []


@pytest.mark.parametrize("route", ["lookup", "intake", "notices"])
def test_edge_tells_browsers_to_come_by_tls_only(production: Manifests, route: str) -> None:
    # Once, and by whoever has the certificate: that no process of ours sends it too is tests/test_headers.py's.
    spec = production.one("HTTPRoute", route)["spec"]
    assert {parent["sectionName"] for parent in spec["parentRefs"]} <= {"https", "intake"}, "listeners with TLS"
    for rule in spec["rules"]:
        (changed,) = [each["responseHeaderModifier"] for each in rule["filters"]]
        assert changed.keys() == {"set"}, "add would make two of them"
        (policy,) = [each["value"] for each in changed["set"] if each["name"] == "Strict-Transport-Security"]
        directives = dict(part.strip().partition("=")[::2] for part in policy.split(";"))
        assert int(directives["max-age"]) >= SECONDS_OF_A_YEAR


@pytest.mark.parametrize(
    ("route", "deadline"),
    [("lookup", default(LookupSettings, "lookup_deadline")), ("intake", default(IntakeSettings, "intake_deadline"))],
)
def test_gateway_is_more_patient_than_the_process(production: Manifests, route: str, deadline: float) -> None:
    (rule,) = production.one("HTTPRoute", route)["spec"]["rules"]
    timeouts = {name: float(text.removesuffix("s")) for name, text in rule["timeouts"].items()}
    assert deadline < timeouts["backendRequest"] <= timeouts["request"]


# -- monitoring ------------------------------------------------------------------------------------------


async def test_metrics_are_fetched_from_where_they_are(production: Manifests) -> None:
    monitor = production.one("PodMonitor", "hoso24")["spec"]
    (term,) = monitor["selector"]["matchExpressions"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert set(term["values"]) == {workload.name for workload in production.serving()}
    for workload in production.serving():
        assert endpoint["port"] in workload.ports

    admin = probes.Admin("manifests", probes.State())
    try:
        await admin.listen("127.0.0.1", 0)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as client,
            client.get(endpoint["path"]) as answer,
        ):
            assert answer.status == 200
            assert "# TYPE" in await answer.text()
    finally:
        await admin.stop()


def test_all_that_was_generated_for_monitoring_is_applied(production: Manifests) -> None:
    component = ROOT / "k8s/components/monitoring"
    kustomization = (component / "kustomization.yaml").read_text("utf-8")
    generated = {str(path.relative_to(component)) for path in (component / "generated").rglob("*") if path.is_file()}
    assert set(re.findall(r"generated/[\w/-]+\.\w+", kustomization)) == generated
    shown = [each for each in production.of("ConfigMap") if "grafana_dashboard" in each["metadata"].get("labels", {})]
    assert len(shown) == len([path for path in generated if path.endswith(".json")]) > 0
    assert production.names("PrometheusRule")


def test_links_to_runbooks_begin_with_one_setting_of_the_overlay(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s/overlays/production"
    text = (overlay / "kustomization.yaml").read_text("utf-8")
    published = "https://git.example/hoso24/-/blob/main/docs"
    ours = text.replace("DOCUMENTS=https://docs.hoso24.example", f"DOCUMENTS={published}")
    (overlay / "kustomization.yaml").write_text(ours, "utf-8")
    rendered = render(overlay)
    rules = [rule for group in rendered.one("PrometheusRule", "hoso24")["spec"]["groups"] for rule in group["rules"]]
    assert {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule} == {
        f"{published}/runbooks/{rule['alert']}.md" for rule in rules if "alert" in rule
    }
    (link,) = [rule for rule in rules if rule.get("record") == "hoso24:runbooks"]
    assert link["labels"]["url"] == f"{published}/runbooks/"
    assert "monitoring-settings" not in str(rendered.names("ConfigMap"))


def test_edge_is_probed_under_the_name_the_rules_know(production: Manifests) -> None:
    probe = production.one("Probe", "hoso24-edge")["spec"]
    (host,) = production.one("HTTPRoute", "lookup")["spec"]["hostnames"]
    asked = [urlsplit(url) for url in probe["targets"]["staticConfig"]["static"]]
    assert {(url.scheme, url.netloc) for url in asked} == {("https", host)}
    routes = {route.path for route in lookup_routes()}
    assert {url.path for url in asked} <= routes
    jobs = re.findall(r'\bjob="([^"]+)"', str(production.of("PrometheusRule")))
    assert set(jobs) == {probe["jobName"]}


def lookup_routes() -> list[Any]:
    nothing: Any = None
    return [*api.endpoints(nothing, nothing), *pages.routes(nothing, nothing, nothing, nothing, secure=True)]


# -- secrets ---------------------------------------------------------------------------------------------


def references(value: Any) -> set[tuple[str, str | None]]:
    """(Secret, key) of whatever in an object names one; no key where all of it is meant."""
    found: set[tuple[str, str | None]] = set()
    if isinstance(value, list):
        return found.union(*map(references, value))
    if not isinstance(value, dict):
        return found
    for name, inner in value.items():
        if name == "secret" and isinstance(inner, dict):
            secret = inner.get("secretName") or inner["name"]
            found |= {(secret, item["key"]) for item in inner.get("items", [])} or {(secret, None)}
        elif name == "passwordSecret":
            found.add((inner["name"], None))
        elif name in {"accessKeyId", "secretAccessKey"}:
            found.add((inner["name"], inner["key"]))
        else:
            found |= references(inner)
    return found


def test_example_has_every_secret_that_is_asked_for_and_no_other() -> None:
    asked = references(render(ROOT / "k8s/overlays/production").objects)
    example = render(SECRETS_EXAMPLE).secrets()
    for_commands = {"redis-operator", "postgres-auditor", "postgres-desk"}
    assert {secret for secret, _ in asked} - MADE_BY_OPERATORS.keys() == example.keys() - for_commands
    for secret, key in asked:
        keys = example.get(secret, {}).keys() | MADE_BY_OPERATORS.get(secret, set())
        assert ({key} if key else {"username", "password"}) <= keys


def test_example_cannot_be_taken_for_the_real_thing() -> None:
    for name, content in render(SECRETS_EXAMPLE).secrets().items():
        for key, text in content.items():
            keys = {"lookup-keys", "seal-keys", "books-key", "webhook-secret", "notice-secret"}
            hidden = bytes.fromhex(text.rpartition(":")[2]).decode() if name in keys else text
            hidden = base64.b64decode(text[6:]).decode() if text.startswith("whsec_") else hidden
            marked = "not-a-secret" in hidden or "not a secret" in hidden
            assert marked or key in {"username", "users.acl"}, f"{name}/{key}"


# -- clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_every_overlay_names_its_proxies(overlay: str) -> None:
    rendered = render(ROOT / "k8s/overlays" / overlay)
    for settings in ("lookup-settings", "intake-settings", "notices-settings"):
        (found,) = [each["data"] for each in rendered.of("ConfigMap") if each["metadata"]["name"].startswith(settings)]
        assert found["HOSO24_TRUSTED_PROXIES"]
        Networks(found["HOSO24_TRUSTED_PROXIES"].split(","))  # or ValueError
