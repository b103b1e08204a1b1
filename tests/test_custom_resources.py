"""Objects of operators' own kinds, held against those operators' definitions.

The definitions come as npm packages, pinned and hashed in .ci/crds (CloudNativePG 1.29, prometheus-operator 0.90, the
types of cert-manager and of the Gateway API); `make test` installs them.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lookup.settings import LookupSettings
from ops import settings
from tests.manifests import CUSTOM, ROOT, Manifests, Object, render
from tests.programs import npm_packages, program

pytestmark = pytest.mark.servers

OWN_SCHEMAS = {"ObjectStore": ROOT / "k8s/objectstore.schema.json"}
"""Kinds that no package has a schema of: ours, after the documentation."""


@pytest.fixture(scope="module")
def production() -> Manifests:
    return render(ROOT / "k8s/overlays/production")


@pytest.fixture(scope="module")
def with_pooler(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Production with the component that is off."""
    return render(pooled_overlay(tmp_path_factory.mktemp("pooled")))


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Production while it is restored, and after."""
    return render(overlay_with("postgres-recovery", "postgres-backup", tmp_path_factory.mktemp("restored")))


def pooled_overlay(directory: Path) -> Path:
    """A kustomization of production and the pooler."""
    return overlay_with("pooler", "postgres", directory)


def overlay_with(component: str, after: str, directory: Path) -> Path:
    """Production and a component that is off; kustomize wants relative paths below one root, so all is copied."""
    shutil.copytree(ROOT / "k8s", directory / "k8s")
    overlay = directory / "k8s/overlays/changed"
    shutil.copytree(ROOT / "k8s/overlays/production", overlay)
    kustomization = overlay / "kustomization.yaml"
    text = kustomization.read_text("utf-8")
    line = f"  - ../../components/{after}\n"
    assert line in text
    kustomization.write_text(text.replace(line, f"{line}  - ../../components/{component}\n"), "utf-8")
    return overlay


def faults(objects: list[Object]) -> list[dict[str, str]]:
    """What is wrong with objects of operators' kinds, by the operators' own definitions."""
    command = [program("node"), str(npm_packages("crds").parent / "validate.mjs")]
    # kustomize leaves the quotes of a time out, which is then no text for PyYAML.
    text = json.dumps(objects, default=str)
    done = subprocess.run(command, input=text, check=True, capture_output=True, text=True, timeout=60)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def custom(manifests: Manifests) -> list[Object]:
    return [each for each in manifests.objects if each["apiVersion"].partition("/")[0].endswith(CUSTOM)]


def test_every_custom_resource_passes_its_operator_s_schema(with_pooler: Manifests) -> None:
    theirs = [each for each in custom(with_pooler) if each["kind"] not in OWN_SCHEMAS]
    assert {each["kind"] for each in theirs} >= {"Cluster", "Pooler", "HTTPRoute", "PodMonitor", "PrometheusRule"}
    assert faults(theirs) == []


def test_kinds_without_a_package_pass_the_schema_of_our_own(production: Manifests) -> None:
    for each in custom(production):
        if each["kind"] in OWN_SCHEMAS:
            schema = json.loads(OWN_SCHEMAS[each["kind"]].read_text("utf-8"))
            jsonschema.Draft202012Validator(schema).validate(each)


Spoil = Callable[[dict[str, Any]], Any]


SPOILT: list[tuple[str, str, Spoil, str]] = [
    ("Certificate", "redis", lambda s: s["privateKey"].update(rotationPolicy="Sometimes"), "allowed"),
    ("Certificate", "redis", lambda s: s.update(renewBfore="1h"), "unknown"),
    ("Cluster", "postgres", lambda s: s["postgresql"]["synchronous"].update(dataDurability="perhaps"), "allowed"),
    ("Cluster", "postgres", lambda s: s["postgresql"]["synchronous"].update(dataDurabilty="required"), "unknown"),
    ("Cluster", "postgres", lambda s: s.update(instances="3"), "integer"),
    ("ScheduledBackup", "postgres-nightly", lambda s: s.pop("schedule"), "required"),
    ("HTTPRoute", "lookup", lambda s: s["rules"][0]["matches"][0]["path"].update(type="Prefix"), "allowed"),
    ("HTTPRoute", "lookup", lambda s: s["rules"][0]["backendRefs"][0].update(prt=8080), "unknown"),
    ("PodMonitor", "hoso24", lambda s: s["podMetricsEndpoints"][0].update(interval="often"), "pattern"),
    ("PodMonitor", "hoso24", lambda s: s["podMetricsEndpoints"][0].update(intervall="10s"), "unknown"),
]
"""What is done to which object, and a word of what has to be said about it."""


def test_validator_sees_what_is_wrong(production: Manifests) -> None:
    objects = []
    for kind, name, spoil, _ in SPOILT:
        objects.append(copy.deepcopy(production.one(kind, name)))
        spoil(objects[-1]["spec"])
    found = faults(objects)
    assert [fault["object"] for fault in found] == [f"{kind} {name}" for kind, name, _, _ in SPOILT]
    assert [
        fault["message"] for fault, (*_, word) in zip(found, SPOILT, strict=True) if word not in fault["message"]
    ] == []


def test_pooler_is_off_and_would_serve_the_lookups_alone(production: Manifests, with_pooler: Manifests) -> None:
    assert production.of("Pooler") == []
    (pooler,) = with_pooler.of("Pooler")
    assert pooler["spec"]["cluster"]["name"] in with_pooler.names("Cluster")
    assert pooler["spec"]["pgbouncer"]["poolMode"] == "transaction"
    pooled = [each.name for each in with_pooler.ours() if "HOSO24_PG_POOLED" in with_pooler.environment(each)]
    assert pooled == ["lookup"]
    assert "HOSO24_PG_POOLED" in {name for name, _, _ in settings.table([LookupSettings])}
    labels = pooler["spec"]["template"]["metadata"]["labels"]
    assert labels["hoso24/store"] == "postgres", "by this label the lookups may reach it, and it the standbys"


def test_restored_cluster_comes_out_of_the_old_archive_and_writes_another(
    production: Manifests, restored: Manifests
) -> None:
    assert faults([each for each in custom(restored) if each["kind"] not in OWN_SCHEMAS]) == []
    before, after = (each.one("Cluster", "postgres")["spec"] for each in (production, restored))
    recovery = after["bootstrap"]["recovery"]
    assert after["bootstrap"].keys() == {"recovery"}
    initdb = before["bootstrap"]["initdb"]
    assert {key: recovery[key] for key in ("database", "owner", "secret")} == {
        key: initdb[key] for key in ("database", "owner", "secret")
    }
    (history,) = [each["plugin"] for each in after["externalClusters"] if each["name"] == recovery["source"]]
    (archiver,) = [each for each in after["plugins"] if each["isWALArchiver"]]
    assert history["name"] == archiver["name"]
    assert history["parameters"]["barmanObjectName"] in restored.names("ObjectStore")
    assert history["parameters"]["serverName"] == "postgres", "the name a cluster archives under if nothing is said"
    assert archiver["parameters"]["serverName"] != history["parameters"]["serverName"]
    left = {"bootstrap", "externalClusters", "plugins"}
    assert {k: v for k, v in before.items() if k not in left} == {k: v for k, v in after.items() if k not in left}


def test_backup_that_is_begun_by_hand_is_the_nightly_one(production: Manifests) -> None:
    backup = yaml.safe_load((ROOT / "k8s/components/postgres-recovery/backup.yaml").read_text("utf-8"))
    assert faults([{**backup, "metadata": {"name": backup["metadata"]["generateName"]}}]) == []
    nightly = production.one("ScheduledBackup", "postgres-nightly")["spec"]
    assert backup["spec"] == {key: nightly[key] for key in ("cluster", "method", "pluginConfiguration")}


def test_cilium_s_gateway_reaches_the_ports_that_any_other_reaches(tmp_path: Path) -> None:
    manifests = render(overlay_with("gateway-cilium", "gateway", tmp_path))
    opened = {
        (each["spec"]["endpointSelector"]["matchLabels"]["app.kubernetes.io/name"], int(port["port"]))
        for each in manifests.of("CiliumNetworkPolicy")
        for rule in each["spec"]["ingress"]
        for ports in rule["toPorts"]
        for port in ports["ports"]
    }
    assert opened == {(each.name, each.ports["http"]) for each in manifests.serving() if "http" in each.ports}
