"""k8s/operate: any command of hoso24, in the cluster, with the Secrets of its role, on real servers.

kubectl is one that keeps the Job and runs what is executed in its pod here (tests/stand_in_kubectl.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import kubernetes_validate
import pytest

import hoso24
from intake.settings import MaintenanceSettings, RelaySettings, RenewSettings, WriterSettings
from lookup.settings import ArchivistUrl, AuditorUrl, FiguresUrl, LookupSettings, MigrateSettings, WriterUrl
from ops import settings
from tests.conftest import KEY_SECRETS, SEAL_KEYS, WEBHOOK_SECRET, Database
from tests.lookup.test_catalogue_files import written
from tests.manifests import OVERLAYS, ROOT, Workload, mounted_secret_files, render, with_secrets
from tests.programs import program

pytestmark = pytest.mark.servers

PRODUCTION = ROOT / "k8s/overlays/production"


class Ran(NamedTuple):
    """How it ended, and what it asked of kubectl."""

    status: int
    out: str
    err: str
    notes: list[list[str]]
    job: dict[str, Any]


Operate = Callable[..., Ran]


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster"
    folder.mkdir()
    kubectl = folder / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests/stand_in_kubectl.py"} "$@"\n', "utf-8")
    kubectl.chmod(0o755)
    return folder


@pytest.fixture
def operate(cluster: Path) -> Operate:
    real = program("kubectl")

    def run(*words: str, overlay: str = "production", cwd: Path | None = None, given: str = "") -> Ran:
        mould = render(ROOT / "k8s/overlays" / overlay).one("CronJob", "operate")
        (cluster / "cronjob.json").write_text(json.dumps(mould), "utf-8")
        done = subprocess.run(
            [str(ROOT / "k8s/operate"), overlay, "--context=test", *words],
            env={
                "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "CLUSTER": str(cluster),
                "KUBECTL": real,
                "PAUSE": "0",
            },
            cwd=cwd or cluster,
            input=given,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        notes = [json.loads(line) for line in (cluster / "notes").read_text("utf-8").splitlines()]
        deleted = cluster / "deleted.json"
        job = json.loads(deleted.read_text("utf-8")) if deleted.exists() else {}
        assert not (cluster / "job.json").exists(), "a Job is left behind"
        return Ran(done.returncode, done.stdout, done.stderr, notes, job)

    return run


@pytest.fixture
def servers(cluster: Path, database: Database, redis_url: str) -> None:
    """Secrets that lead to the servers of the tests."""
    urls = {role: database.url(f"hoso24_{role}") for role in ROLES}
    for secret, key, text in [
        *((f"postgres-{role}", "url", url) for role, url in urls.items()),
        ("redis-operator", "url", redis_url),
        ("lookup-keys", "secrets", KEY_SECRETS),
        ("seal-keys", "keys", SEAL_KEYS),
        ("webhook-secret", "secret", WEBHOOK_SECRET),
        ("log-hash", "keys", "k"),
    ]:
        (cluster / "secrets" / secret).mkdir(parents=True)
        (cluster / "secrets" / secret / key).write_text(text, "utf-8")


# -- the Job ---------------------------------------------------------------------------------------------

ROLES = ("owner", "writer", "relay", "reader", "auditor", "archivist", "desk", "figures")
"""Those that commands have; no command is the notary's."""
NEEDS = {
    "migrate": MigrateSettings,
    "cache renew --reason r": RenewSettings,
    "catalogue load --sample": MigrateSettings,
    "cache lost": RelaySettings,
    "why G99.01.01-261126-0001": LookupSettings,
    "audit verify": AuditorUrl,
    "client add c --name n --agency G99": MigrateSettings,
    "client list": MigrateSettings,
    "import nothing.ndjson": WriterSettings,
    "dossier key G99.01.01-261126-0001": WriterSettings,
    "dossier owner G99.01.01-261126-0001 none": WriterSettings,
    "dossier remove G99.01.01-261126-0001 --reason r": WriterSettings,
    "retention": WriterSettings,
    "person export --id 079000000742": WriterUrl,
    "hold set G99.01.01-261126-0001 --kind legal --reason r": ArchivistUrl,
    "hold list": ArchivistUrl,
    "hold lift G99.01.01-261126-0001 --kind legal": ArchivistUrl,
    "deadletters list": WriterUrl,
    "deadletters replay 17": WriterSettings,
    "officer load officers.csv": MigrateSettings,
    "officer list": MigrateSettings,
    "overdue": WriterUrl,
    "tidy": ArchivistUrl,
    "figures": FiguresUrl,
    "maintenance list": MaintenanceSettings,
}
"""What a person calls in a cluster, with the settings each needs."""
OF_TWO = ("dossier remove", "retention")
"""Commands of writer and archivist."""
ELSEWHERE = {
    "paper",
    "doctor",
    "metrics",
    "lookup",
    "intake",
    "relay",
    "notary",
    "webhooks",
    "notices",
    "desk",
    "sample",
    "up",
    "down",
    "demo",
}
"""The doctor takes the settings of any role; the others are processes, need none, or run on a developer's machine."""


def test_every_command_is_considered() -> None:
    assert {words.split()[0] for words in NEEDS} | ELSEWHERE == set(hoso24.cli.commands)


@pytest.mark.parametrize("words", NEEDS)
def test_command_has_the_settings_it_needs(operate: Operate, tmp_path: Path, words: str) -> None:
    job = operate(*words.split()).job
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    manifests = with_secrets(PRODUCTION)
    workload = Workload.of(job)
    environment = manifests.environment(workload)
    mounted = mounted_secret_files(workload)
    secrets = manifests.secrets()
    for name, path in environment.items():
        if name.endswith("_FILE"):
            secret, key = mounted[path]
            file = tmp_path / PurePosixPath(path).name
            file.write_text(secrets[secret][key], "utf-8")
            environment[name] = str(file)
    settings.read(NEEDS[words], environment)
    roles = {secret for secret, _ in mounted.values() if secret.startswith("postgres-")} - {"postgres-ca"}
    several = {"postgres-writer", "postgres-archivist"} if words.startswith(OF_TWO) else set()
    several |= {"postgres-writer", "postgres-archivist", "postgres-auditor"} if words.startswith("person") else set()
    assert roles == several or len(roles) == 1, "a command has the Secret of one role"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("servers")
def test_role_can_be_chosen(operate: Operate, role: str) -> None:
    ran = operate(f"--role={role}", "doctor", "--json")
    assert f"postgres-{role}" in {secret for secret, _ in mounted_secret_files(Workload.of(ran.job)).values()}
    assert f"postgres as {role}" in ran.out


def test_unknown_role_is_named(operate: Operate, cluster: Path) -> None:
    (cluster / "notes").touch()
    ran = operate("--role=king", "doctor")
    assert ran.status == 1
    assert "There is no role king" in ran.err


def test_mould_is_never_started_by_itself() -> None:
    for overlay in OVERLAYS:
        spec = render(overlay).one("CronJob", "operate")["spec"]
        assert spec["suspend"] is True
        assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0


# -- what it does ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("servers")
def test_output_and_exit_status_are_the_command_s(operate: Operate) -> None:
    ran = operate("cache", "renew", "--reason", 'it\'s a "test"; $HOME\\n')
    begun, told = ran.out.splitlines()
    assert (ran.status, begun) == (0, "Epoch 2 has begun; relay and lookups change over within a second.")
    assert told.startswith("Followers of the log are told ")
    assert operate("cache", "renew").status == 2, "--reason is missing"
    assert all("--context=test" in words for words in ran.notes if words[0] != "patch")
    assert all(words[2] == "hoso24" for words in ran.notes if words[1] == "--namespace")


@pytest.mark.usefixtures("servers")
async def test_words_arrive_as_they_were_given(operate: Operate, owner: Any) -> None:
    reason = 'it\'s a "test"; $HOME \\n  two'
    operate("cache", "renew", "--reason", reason)
    assert await owner.fetchval("SELECT reason FROM hoso24.epoch ORDER BY number DESC LIMIT 1") == reason


@pytest.mark.usefixtures("servers")
def test_import_takes_a_file_there_and_brings_back_keys_and_refused_lines(
    operate: Operate, cluster: Path, tmp_path: Path
) -> None:
    here = tmp_path / "my files"
    here.mkdir()
    file = here / "dossiers.ndjson"
    subprocess.run([sys.executable, "-m", "hoso24", "sample", "--n", "40", "--broken", "0.2", "-o", str(file)],
                   check=True, cwd=ROOT, capture_output=True)  # fmt: skip
    ran = operate("import", str(file))
    assert ran.status == 1, ran.err  # it came to its end, and refused lines
    claims = [each.get("persistentVolumeClaim") for each in ran.job["spec"]["template"]["spec"]["volumes"]]
    assert {"claimName": "import"} in claims
    keys = here / "dossiers.ndjson.keys.ndjson"
    assert all({"code", "lookup_key"} <= json.loads(line).keys() for line in keys.read_text("utf-8").splitlines())
    assert keys.stat().st_mode & 0o777 == 0o600
    assert (here / "dossiers.ndjson.rejected.ndjson").stat().st_size > 0
    assert list((cluster / "tmp").iterdir()) == [], "dossiers are left in the volume"


@pytest.mark.usefixtures("servers")
async def test_catalogue_is_a_directory_of_this_machine(operate: Operate, owner: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my catalogue"
    folder.mkdir()
    ran = operate("catalogue", "load", str(written(folder)), "--by", "An", cwd=tmp_path)
    assert ran.status == 0, ran
    assert "Loaded: 3 of agency" in ran.out
    assert await owner.fetchval("SELECT author FROM hoso24.catalogue_load ORDER BY number DESC LIMIT 1") == "An"
    (folder / "agencies.csv").write_text("code\n")
    refused = operate("catalogue", "check", str(folder))
    assert (refused.status, "agencies.csv, line 1: has no column parent" in refused.err) == (1, True)


@pytest.mark.usefixtures("servers")
def test_import_that_fails_leaves_what_it_needs_to_go_on(operate: Operate, cluster: Path, tmp_path: Path) -> None:
    (cluster / "secrets/postgres-writer/url").write_text("postgresql://hoso24_writer:x@127.0.0.1:1/hoso24", "utf-8")
    (tmp_path / "dossiers.ndjson").write_text("{}\n", "utf-8")
    assert operate("import", "dossiers.ndjson", cwd=tmp_path).status == 2
    assert (cluster / "tmp/dossiers.ndjson").exists()


@pytest.mark.usefixtures("servers")
def test_file_that_a_command_writes_comes_back(operate: Operate, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    ran = operate("cache", "lost", "-o", "there/lost.ndjson", cwd=tmp_path)
    assert (tmp_path / "there/lost.ndjson").exists(), ran
    assert ran.status == 0


def test_psql_is_the_administrator_s_on_the_primary(operate: Operate) -> None:
    ran = operate("psql", "-c", "SELECT 'a'", given="SELECT 1;")
    assert ran.status == 3, "the program's own exit status"
    said = json.loads(ran.out)
    assert said == {"pod": "pod/postgres-2", "words": ["psql", "hoso24", "-c", "SELECT 'a'"], "input": "SELECT 1;"}


@pytest.mark.parametrize(("options", "pod"), [((), "redis-1"), (("--node=redis-2",), "redis-2")])
def test_valkey_is_asked_as_a_user_of_the_acl_and_no_command_line_has_the_password(
    operate: Operate, cluster: Path, options: tuple[str, ...], pod: str
) -> None:
    production = with_secrets(PRODUCTION)
    url = production.secrets()["redis-operator"]["url"]
    (cluster / "secrets/redis-operator").mkdir(parents=True)
    (cluster / "secrets/redis-operator/url").write_text(url, "utf-8")
    ran = operate(*options, "valkey-cli", "info", "memory")
    said = json.loads(ran.out)
    assert (said["pod"], said["words"][-2:]) == (pod, ["info", "memory"])
    user = said["words"][said["words"].index("info") - 1]
    assert f"user {user} on #" in production.secrets()["redis-server"]["users.acl"]
    password = said["input"].strip()
    assert password in url
    assert password not in json.dumps(ran.notes)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_policies_let_a_command_reach_both_stores_and_nothing_reach_it(overlay: Path) -> None:
    manifests = render(overlay)
    workload = manifests.operate()
    reached = {
        next(iter(peer["podSelector"]["matchLabels"].values()))
        for rule in manifests.egress(workload.labels)
        for peer in rule["to"]
        if "podSelector" in peer
    }
    assert reached == {"postgres", "redis", "notary"}  # whoever verifies reads the books
    assert manifests.ingress(workload.labels) == []


def test_valkey_s_administrator_has_the_password_that_is_in_the_pod(operate: Operate) -> None:
    said = json.loads(operate("--role=admin", "--node=redis-0", "valkey-cli", "acl", "load").out)
    assert (said["pod"], said["words"][-3:], said["input"]) == ("redis-0", ["admin", "acl", "load"], "\n")
    production = render(PRODUCTION)
    (valkey,) = production.selected({"app.kubernetes.io/name": "redis"})
    paths = {each["name"]: each["mountPath"] for each in valkey.container["volumeMounts"]}
    (auth,) = [each["secret"] for each in valkey.pod["volumes"] if each["name"] == "auth"]
    assert {f"{paths['auth']}/{item['path']}" for item in auth["items"]} >= {"/etc/valkey-auth/admin-password"}
    assert "/etc/valkey-auth/admin-password" in said["words"][2]
