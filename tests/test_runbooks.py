"""Every command that runbooks, threat model and k8s/README tell can be carried out on the overlays as they are.

Commands are the code spans and blocks that begin with a program. Their names are looked up in what the overlays render
to; Redis is asked whether the account may do it, PostgreSQL prepares the statement, and hoso24 reads its own options.
"""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import click
import pytest
import redis.asyncio

import hoso24
from tests.conftest import Database
from tests.manifests import OVERLAYS, ROOT, SECRETS_EXAMPLE, Manifests, render, with_components

pytestmark = pytest.mark.servers

RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
PAGES = [*RUNBOOKS, ROOT / "docs/threat-model.md", ROOT / "k8s/README.md"]
PROGRAMS = ("kubectl", "k8s/apply", "k8s/operate")
NOT_BY_THEMSELVES = re.compile(
    r"(redis-cli|valkey-cli|psql|py-spy|hoso24 |SELECT |DELETE |info |config (get|set) |acl |client list)"
)
"""What does not run where the reader is: it needs a pod, a login or a certificate."""
MENTIONS = {"restore.md": "runs the same on one machine", "threat-model.md": "tells what a command does",
            "README.md": "explains commands", "error-budget.md": "made by a program",
            "secrets.md": "tells which command makes a secret"}  # fmt: skip
"""Pages that may name such a command without the way to it."""
OPERATORS_LABELS = {"cnpg.io/cluster": "postgres", "cnpg.io/instanceRole": "primary"}
KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service",
         "hpa": "HorizontalPodAutoscaler", "job": "Job", "cronjob": "CronJob", "certificate": "Certificate",
         "httproute": "HTTPRoute",
         "clusters.postgresql.cnpg.io": "Cluster"}  # fmt: skip
WITHOUT_NAMESPACE = ("kustomize", "apply", "delete -k", "patch persistentvolume", "get persistentvolume", "top")


class Command(NamedTuple):
    page: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def spans(path: Path) -> Iterator[str]:
    """The code spans and the lines of the blocks of a page; a command inside $(…) as well."""
    text = path.read_text("utf-8")
    for language, block in re.findall(r"^ *```(\S* ?\S*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        if language in {"sh", "sh kubernetes"}:
            yield from re.split(r"\n|; do ", block.replace("\\\n", ""))
            yield from re.findall(r"\$\(((?:kubectl|k8s/)[^)]*)\)", block)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def commands() -> list[Command]:
    found = []
    for path in PAGES:
        for span in spans(path):
            text = re.split(r" \| |; done", span.strip())[0]
            if text.startswith(tuple(f"{program} " for program in PROGRAMS)):
                found.append(Command(path.name, text))
    return found


COMMANDS = commands()


def by(*programs: str) -> pytest.MarkDecorator:
    """A test of the commands that begin with one of these."""
    found = [command for command in COMMANDS if command.words[0] in programs]
    return pytest.mark.parametrize("command", found, ids=lambda command: f"{command.page}: {command.text}"[:90])


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifests]:
    """By namespace, and by the overlay's name, with the components that are left to whoever wants them."""
    found: dict[str, Manifests] = {}
    for path in OVERLAYS:
        more = () if path.name == "dev" else ("desk", "papers")
        manifests = with_components(path, tmp_path_factory.mktemp(path.name), *more)
        (namespace,) = manifests.names("Namespace")
        found |= {path.name: manifests, namespace: manifests}
    return found


def test_there_are_commands_of_each_kind() -> None:
    first = {command.words[0] for command in COMMANDS}
    assert first == set(PROGRAMS)
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_tells_a_command_without_the_way_to_where_it_runs(path: Path) -> None:
    if path.name not in MENTIONS:
        assert [span for span in spans(path) if NOT_BY_THEMSELVES.match(span)] == []


def labels(manifests: Manifests) -> set[tuple[str, str]]:
    return {item for workload in manifests.workloads() for item in workload.labels.items()} | OPERATORS_LABELS.items()


@by("kubectl")
def test_what_kubectl_is_told_exists(overlays: dict[str, Manifests], command: Command) -> None:
    words = command.words
    if words[1] != "-n":
        everywhere = "--all-namespaces" in words
        assert everywhere or " ".join(words[1:]).startswith(WITHOUT_NAMESPACE), "which namespace?"
        for word in words[2:]:
            assert not word.startswith("k8s/") or (ROOT / word).exists()
        return
    manifests = overlays[words[2]]
    before, _, _ = command.text.partition(" -- ")
    for selector in re.findall(r"-l (\S+)", before):
        assert {tuple(each.split("=")) for each in selector.split(",")} <= labels(manifests)
    for kind, name in re.findall(r"\b([a-z.]+)/([a-z][a-z0-9-]*)\b", re.sub(r"-[a-z] \S+|k8s/\S+", "", before)):
        exists = manifests.names(KINDS[kind])
        assert name in exists or any(each.startswith(name) for each in exists if kind == "job"), f"{kind}/{name}"
    if words[3] == "scale":
        scaled = {each["spec"]["scaleTargetRef"]["name"] for each in manifests.of("HorizontalPodAutoscaler")}
        assert not {word.partition("/")[2] for word in words} & scaled, "an autoscaler undoes this"
    if words[3] == "port-forward":
        (service,) = [each for each in words if each.startswith("service/")]
        ports = {port["port"] for port in manifests.one("Service", service.partition("/")[2])["spec"]["ports"]}
        assert int(words[-1].partition(":")[2] or words[-1]) in ports
    if " -- hoso24 " in command.text:
        parses(words[words.index("--") + 2 :])


@by("k8s/operate", "k8s/apply")
def test_what_operate_and_apply_are_told_exists(overlays: dict[str, Manifests], command: Command) -> None:
    program, overlay, *words = command.words
    assert (ROOT / program).exists()
    if overlay == "OVERLAY":
        return
    assert overlay in overlays
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0).partition("=")
        if name == "--role":
            assert value in {"owner", "writer", "relay", "reader", "admin"}
        elif name == "--node" and value != "$NODE":
            assert value in {
                f"redis-{n}" for n in range(overlays[overlay].one("StatefulSet", "redis")["spec"]["replicas"])
            }
    for after in words[words.index("<") + 1 :] if "<" in words else []:
        assert (ROOT / after).exists()
    if program == "k8s/operate" and words[0] not in {"psql", "valkey-cli"}:
        parses(words)


def parses(words: list[str]) -> None:
    """hoso24 takes these words; files need not exist."""
    command: click.Command = hoso24.cli
    while isinstance(command, click.Group) and not (command.invoke_without_command and words[0].startswith("-")):
        command = command.commands[words.pop(0)]
    words = [word for word in words if word not in {"|", "<", "/dev/null"}]
    if command.name != "import":
        with command.make_context(command.name, words):
            pass


# -- what the servers say ----------------------------------------------------------------------------------


def of(program: str) -> list[Any]:
    found = []
    for command in COMMANDS:
        if program in command.words and "<" not in command.words:  # what a file holds, its own test runs
            at = command.words.index(program)
            found.append(
                pytest.param(command.words[:at], command.words[at + 1 :], id=f"{command.page}: {command.text}"[:90])
            )
    return found


@pytest.mark.parametrize(("before", "words"), of("valkey-cli"))
async def test_account_may_do_it(redis_url: str, before: list[str], words: list[str]) -> None:
    secrets = render(SECRETS_EXAMPLE).secrets()
    rules = dict(re.findall(r"^user (\w+) on (.*)$", secrets["redis-server"]["users.acl"], re.MULTILINE))
    login = secrets["redis-operator"]["url"].partition("://")[2]
    user = "admin" if "--role=admin" in before else login.partition(":")[0] or "default"
    client: Any
    async with redis.asyncio.Redis.from_url(redis_url, protocol=2, decode_responses=True) as client:
        await client.execute_command("ACL", "SETUSER", "reader-of-runbooks", "reset", "on", *rules[user].split())
        try:
            assert await client.execute_command("ACL", "DRYRUN", "reader-of-runbooks", *words) == "OK"
        finally:
            await client.execute_command("ACL", "DELUSER", "reader-of-runbooks")


@pytest.mark.parametrize(("before", "words"), of("psql"))
async def test_statement_is_one(template: Database, before: list[str], words: list[str]) -> None:
    assert before[0] == "k8s/operate"
    statement = next(word for flag, word in itertools.pairwise(words) if flag.endswith("c"))
    url = template.admin_url.rpartition("/")[0] + f"/{template.name}"
    connection = await asyncpg.connect(url)
    try:
        await connection.prepare(statement.replace("PID", "0"))
    finally:
        await connection.close()
