"""Three Valkeys and three Sentinels, started by the very scripts the pods run, on loopback addresses of their own.

What the pods' image has besides is stood in for: `getent` for the cluster's DNS, `valkey-cli` for the one of the image,
which the wheel does not carry. The wheel is built without TLS, so what a certificate changes is tested with Debian's
Redis. Only Linux has all of 127.0.0.0/8.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lookup import redis_users
from ops.local.reaper import Reaper
from ops.local.valkey import ValkeyServer
from ops.stores.redis import Redis
from tests import programs
from tests.debian import Authority
from tests.house import until
from tests.manifests import ROOT

SCRIPTS = ROOT / "k8s/components/redis-sentinel"
EXAMPLE = ROOT / "k8s/secrets.example"
PASSWORD = "not-a-secret-redis-operator"
SENTINEL_PASSWORD = "not-a-secret-sentinel-client"
DEAD_AFTER_MS = 2000
"""Less than a Sentinel's own pings may take, and failovers follow each other, in the end to whoever has nothing yet."""

# Enough of it for the scripts: the host is looked up as getent does it, the answer is printed item by item, and with -e
# an error ends it with 1.
VALKEY_CLI = """
import os, socket, subprocess, sys
words = sys.argv[1:]
given = {word: words[n + 1] for n, word in enumerate(words) if word in ("-h", "-p", "--user", "--pass")}
host, port = given["-h"], int(given["-p"])
address = subprocess.run(["getent", "ahostsv4", host], capture_output=True, text=True).stdout.split()[0]

def show(lines):
    line = lines.readline().strip()
    if line.startswith("-"):
        sys.exit(1)
    if line.startswith("*"):
        for _ in range(int(line[1:])):
            show(lines)
    elif line.startswith("$"):
        print(lines.read(int(line[1:]) + 2).strip())
    else:
        print(line[1:])

with socket.create_connection((address, port), 2) as connection:
    login = f"AUTH {given['--user']} {given.get('--pass') or os.environ['REDISCLI_AUTH']}"
    connection.sendall(f"{login}\\r\\n{' '.join(words[words.index('-p') + 2 :])}\\r\\n".encode())
    with connection.makefile("r", newline="") as lines:
        lines.readline()
        show(lines)
"""

# Debian's own, with the cluster's host names replaced by their addresses.
REDIS_CLI = """
import os, subprocess, sys

def found(word):
    if not word.startswith(("redis-node-", "sentinel-node-")):
        return word
    return subprocess.run(["getent", "ahostsv4", word], capture_output=True, text=True).stdout.split()[0]

os.execvp("redis-cli", ["redis-cli", *map(found, sys.argv[1:])])
"""

pytestmark = programs.on_linux


PATIENCE = 90.0
"""Sentinels whose own timers came late, as on a machine that stood still, do nothing for half a minute (TILT)."""


@dataclass
class Pods:
    """A directory each; what a pod's script is called with, and the processes it has become."""

    directory: Path
    network: str
    reaper: Reaper
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    certificate: Path | None = None
    """The authority's, where there is TLS."""
    old: bool = False
    """Whether the servers are Debian's, who do not know a command that the example's rights name."""

    def address(self, pod: str) -> str:
        name, number = pod.split("-")
        return f"{self.network}.{ {'redis': 10, 'sentinel': 20}[name] + int(number) }"

    def start(self, pod: str) -> None:
        """Start the pod's script; what it left in its directory before is still there."""
        name = pod.partition("-")[0]
        home = self.directory / pod
        (home / "data").mkdir(parents=True, exist_ok=True)
        for source in (f"start-{name}", "redis-is-ready", "answers", "common.sh", "valkey.conf", "sentinel.conf"):
            text = (SCRIPTS / source).read_text("utf-8").replace("/etc/valkey", str(self.directory / "etc"))
            text = text.replace("/data", str(home / "data")).replace(" 5000", f" {DEAD_AFTER_MS}")
            text = text.replace(str(self.directory / "etc") + "/", f"{home}/")
            if self.old:
                text = text.replace(" +client|setinfo", "")
            (home / source).write_text(text, "utf-8")
        command = ["sh", str(home / f"start-{name}"), "--bind", self.address(pod)]
        if name == "redis":
            command += ["--repl-diskless-sync-delay", "0"]  # or each replica is five seconds late
        with open(home / "log", "ab") as log:
            process = subprocess.Popen(
                command, env=self._environment(pod), stdout=log, stderr=log, start_new_session=True
            )
        self.reaper.watch(process.pid, signal.SIGKILL)
        self.running[pod] = process

    def _environment(self, pod: str) -> dict[str, str]:
        return {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "HOSTNAME": pod,
            "OWN_ADDRESS": self.address(pod),
            "LOOK_EVERY": "0.2",
            "APART": "0",
        }

    def is_ready(self, pod: str) -> bool:
        """What its readiness probe says."""
        script = self.directory / pod / "redis-is-ready"
        return subprocess.run(["sh", str(script)], env=self._environment(pod), check=False).returncode == 0

    def answers(self, pod: str) -> bool:
        """What its liveness probe says."""
        command = ["sh", str(self.directory / pod / "answers"), str(PORTS[pod.partition("-")[0]])]
        return subprocess.run(command, env=self._environment(pod), check=False).returncode == 0

    def kill(self, pod: str) -> None:
        """End it at once, as a node's memory would."""
        process = self.running.pop(pod)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.reaper.forget(process.pid)

    def forget(self, pod: str) -> None:
        """What a new pod finds in its emptyDir."""
        shutil.rmtree(self.directory / pod)

    def client(self, pod: str, user: str = "operator", password: str = PASSWORD) -> Any:
        return self.connected(pod, 6379, username=user, password=password)

    def sentinel(self, pod: str, user: str = "client", password: str = SENTINEL_PASSWORD) -> Any:
        return self.connected(pod, 26379, username=user, password=password)

    def connected(self, pod: str, port: int, **options: Any) -> Any:
        """A client of one server; without `username` and `password` one that does not log in."""
        if self.certificate:
            options |= {"ssl": True, "ssl_ca_certs": str(self.certificate), "ssl_check_hostname": False}
        host, once = self.address(pod), Retry(NoBackoff(), 0)
        return redis.asyncio.Redis(host=host, port=port, protocol=2, decode_responses=True, retry=once, **options)

    async def primary(self, asked: str = "sentinel-0") -> str | None:
        """The pod whom a Sentinel calls primary; None while it cannot be asked."""
        with contextlib.suppress(redis.exceptions.ConnectionError, TypeError):
            async with self.sentinel(asked) as client:
                address, _ = await client.sentinel_get_master_addr_by_name("hoso24")
                return next(f"redis-{n}" for n in range(3) if self.address(f"redis-{n}") == address)
        return None

    def has_moved_from(self, pod: str) -> Callable[[], Awaitable[bool]]:
        """Whether a Sentinel calls another pod primary."""

        async def moved() -> bool:
            return await self.primary() not in {pod, None}

        return moved

    async def is_whole(self) -> bool:
        """Whether every Sentinel knows two replicas and the two others, and every Valkey is what it should be."""
        with contextlib.suppress(redis.exceptions.ConnectionError):
            for n in range(3):
                async with self.sentinel(f"sentinel-{n}") as client:
                    said = await client.sentinel_master("hoso24")
                    if (said["num-slaves"], said["num-other-sentinels"]) != (2, 2) or "down" in said["flags"]:
                        return False
                async with self.client(f"redis-{n}") as client:
                    state = await client.info("replication")
                    if state["role"] == "slave" and state["master_link_status"] != "up":
                        return False
            return True
        return False


@pytest.fixture(scope="module")
def pods(reaper: Reaper) -> Iterator[Pods]:
    with made(reaper) as pods:
        yield pods


@contextlib.contextmanager
def made(reaper: Reaper) -> Iterator[Pods]:
    """What pods are started in, and what is stood in for; none of them runs afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-pods-"))
    network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
    pods = Pods(directory, network, reaper)
    shutil.copytree(EXAMPLE, directory / "etc-auth")
    for line in (EXAMPLE / "kustomization.yaml").read_text("utf-8").splitlines():
        name, _, password = line.strip(" -").partition("=")
        if name.endswith("-password"):
            (directory / "etc-auth" / name).write_text(password, "utf-8")
    bin_ = directory / "bin"
    bin_.mkdir()
    packages = ValkeyServer.wheel.find()
    assert packages is not None
    (bin_ / "valkey-server").symlink_to(packages / ValkeyServer.wheel.probe)
    addresses = [(f"{kind}-node-{n}", pods.address(f"{kind}-{n}")) for kind in ("redis", "sentinel") for n in range(3)]
    answers = " ".join(f'{name}) echo "{address} STREAM" ;;' for name, address in addresses)
    write_program(bin_ / "getent", f"#!/bin/sh\ncase $2 in {answers} *) exit 2 ;; esac\n")
    write_program(bin_ / "valkey-cli", f"#!{sys.executable} -IS\n{VALKEY_CLI}")
    yield pods
    for pod in list(pods.running):
        pods.kill(pod)
    shutil.rmtree(directory, ignore_errors=True)


def write_program(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


VALKEYS = [f"redis-{n}" for n in range(3)]
SENTINELS = [f"sentinel-{n}" for n in range(3)]
CLIENTS_OF_VALKEY = [{"username": user, "password": f"not-a-secret-redis-{user}"} for user in redis_users.RIGHTS]


@pytest.fixture
async def whole(pods: Pods) -> Pods:
    """All six, knowing each other; they are started all at once, as in a cluster that is new."""
    return await complete(pods)


async def complete(pods: Pods) -> Pods:
    for pod in (*VALKEYS, *SENTINELS):
        if pod not in pods.running:
            pods.start(pod)
    await until(pods.is_whole, within=PATIENCE)
    return pods


async def test_a_primary_that_comes_back_at_once_does_not_empty_the_others(whole: Pods) -> None:
    first = await whole.primary()
    assert first
    async with whole.client(first) as client:
        await client.set("limit:kept", "yes")
        assert await client.wait(2, 5000) == 2

    whole.kill(first)
    whole.start(first)

    await until(whole.has_moved_from(first), within=PATIENCE)
    await until(whole.is_whole, within=PATIENCE)
    for n in range(3):
        async with whole.client(f"redis-{n}") as client:
            assert await client.get("limit:kept") == "yes"

    # A Sentinel's new pod knows nothing, and asks the others.
    whole.kill("sentinel-2")
    whole.forget("sentinel-2")
    whole.start("sentinel-2")
    await until(whole.is_whole, within=PATIENCE)
    assert await whole.primary("sentinel-2") == await whole.primary("sentinel-0") != first


async def test_no_user_may_do_more_than_it_has_to_and_passwords_change_without_a_restart(whole: Pods) -> None:
    primary = await whole.primary()
    assert primary
    async with whole.client(primary) as client, whole.sentinel("sentinel-0") as sentinel:
        for forbidden in ("FLUSHALL", "CONFIG SET maxmemory 1", "ACL LIST", "SHUTDOWN", "REPLICAOF NO ONE"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await client.execute_command(*forbidden.split())
        for forbidden in ("SENTINEL SET hoso24 quorum 1", "SENTINEL FAILOVER hoso24", "SENTINEL REMOVE hoso24"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await sentinel.execute_command(*forbidden.split())

    acl = whole.directory / "etc-auth" / "users.acl"
    new = hashlib.sha256(b"another").hexdigest()
    acl.write_text(acl.read_text("utf-8").replace("user operator on ", f"user operator on #{new} "), "utf-8")
    async with whole.client(primary, "admin", "not-a-secret-admin") as admin:
        await admin.acl_load()
    for password in (PASSWORD, "another"):
        async with whole.client(primary, password=password) as client:
            await client.set("limit:may", "write")


# -- who may name the primary ------------------------------------------------------------------------------


def hello(pods: Pods, primary: str, *, config_epoch: int) -> str:
    """What a Sentinel publishes to make the others follow this primary."""
    stranger = f"{pods.network}.99,26379,{'5' * 40},{config_epoch}"
    return f"{stranger},hoso24,{pods.address(primary)},6379,{config_epoch}"


async def test_hello_of_a_stranger_does_not_replace_the_primary(whole: Pods) -> None:
    primary = await whole.primary()
    other = next(pod for pod in VALKEYS if pod != primary)
    async with whole.sentinel("sentinel-0") as client:
        before = await client.sentinel_master("hoso24")
    forged = hello(whole, other, config_epoch=before["config-epoch"] + 100)
    refusals = (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError)

    for pod in SENTINELS:
        for login in ({}, {"username": "client", "password": SENTINEL_PASSWORD}):
            async with whole.connected(pod, 26379, **login) as client:
                for words in (
                    ("PUBLISH", "__sentinel__:hello", forged),
                    ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", whole.address(other), "6379", "10000", "5" * 40),
                    ("SENTINEL", "MONITOR", "other", whole.address(other), "6379", "1"),
                ):
                    with pytest.raises(refusals):
                        await client.execute_command(*words)
    # Sentinels also listen to the hellos at each Valkey.
    for pod in VALKEYS:
        for login in ({}, {"username": "probe", "password": "-"}, *CLIENTS_OF_VALKEY):
            async with whole.connected(pod, 6379, **login) as client:
                with pytest.raises(refusals):
                    await client.execute_command("PUBLISH", "__sentinel__:hello", forged)

    for pod in SENTINELS:
        async with whole.sentinel(pod) as client:
            after = await client.sentinel_master("hoso24")
        assert (after["ip"], after["config-epoch"]) == (before["ip"], before["config-epoch"])
        assert after["num-other-sentinels"] == 2


async def test_sentinels_that_are_all_new_find_the_primary_on_another_node(whole: Pods) -> None:
    if await whole.primary() == "redis-0":
        whole.kill("redis-0")
        whole.start("redis-0")
        await until(whole.has_moved_from("redis-0"), within=PATIENCE)
        await until(whole.is_whole, within=PATIENCE)
    primary = await whole.primary()
    assert primary != "redis-0"
    async with whole.client(str(primary)) as client:
        await client.set("limit:kept", "over")

    for pod in SENTINELS:
        whole.kill(pod)
        whole.forget(pod)
    for pod in SENTINELS:
        whole.start(pod)

    async def is_named() -> bool:
        return await whole.primary() is not None

    await until(is_named, within=PATIENCE)
    assert await whole.primary() == primary, "the first answer names it"
    await until(whole.is_whole, within=PATIENCE)
    assert {await whole.primary(pod) for pod in SENTINELS} == {primary}
    async with whole.sentinel("sentinel-0") as client:
        assert (await client.sentinel_master("hoso24"))["config-epoch"] == 0, "without a failover"
    async with whole.client(str(primary)) as client:
        assert await client.get("limit:kept") == "over"


async def test_valkey_that_starts_without_any_sentinel_follows_the_primary_there_is(whole: Pods) -> None:
    primary = await whole.primary()
    for pod in SENTINELS:
        whole.kill(pod)
    replica = next(pod for pod in VALKEYS if pod != primary)
    whole.kill(replica)
    whole.start(replica)

    async def follows() -> bool:
        async with whole.client(replica) as client:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                state = await client.info("replication")
                return (state["role"], state.get("master_host")) == ("slave", whole.address(str(primary)))
        return False

    await until(follows, within=PATIENCE)


# -- with a certificate ------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(reaper: Reaper) -> Iterator[Pods]:
    """The same with a certificate mounted, as components/redis-tls does it."""
    servers = {name: programs.program(name) for name in ("openssl", "redis-server", "redis-cli")}
    with made(reaper) as pods:
        (pods.directory / "bin/valkey-server").unlink()
        (pods.directory / "bin/valkey-server").symlink_to(servers["redis-server"])
        write_program(pods.directory / "bin/valkey-cli", f"#!{sys.executable} -IS\n{REDIS_CLI}")
        (pods.directory / "etc-tls").mkdir()
        pods.old = True
        acl = pods.directory / "etc-auth/users.acl"
        acl.write_text(acl.read_text("utf-8").replace(" +client|setinfo", ""), "utf-8")
        yield pods


def mount(pods: Pods, authority: Authority, name: str) -> str:
    """A new certificate, as cert-manager and the kubelet bring it; what is shown from then on."""
    issued = authority.issue(name, names="DNS:redis,DNS:sentinel")
    files = {"ca.crt": authority.path, "tls.key": issued.key, "tls.crt": issued.path}
    for file, source in files.items():  # the certificate last, since that is what is looked at
        copy = pods.directory / "etc-tls" / f"{file}.new"
        shutil.copy(source, copy)
        copy.replace(pods.directory / "etc-tls" / file)
    return issued.path.read_text()


async def show(pods: Pods, names: list[str], certificate: str) -> bool:
    """Whether all these pods show this certificate."""
    try:
        shown = [
            await asyncio.to_thread(ssl.get_server_certificate, (pods.address(pod), PORTS[pod.partition("-")[0]]))
            for pod in names
        ]
    except OSError:
        return False
    return {each.strip() for each in shown} == {certificate.strip()}


PORTS = {"redis": 6379, "sentinel": 26379}


async def test_with_a_certificate_nothing_is_without_tls_and_a_renewed_one_is_taken(encrypted: Pods) -> None:
    pods, authority = encrypted, Authority(encrypted.directory, "authority")

    # Without at first. Whoever is a client then goes where its setting says from the next connect on.
    url = f"redis+sentinel://operator:{PASSWORD}@{','.join(pods.address(pod) for pod in SENTINELS)}/hoso24"
    url += f"?sentinel_username=client&sentinel_password={SENTINEL_PASSWORD}"
    client = Redis("redis", lambda: url, size=1, deadline=5.0)
    await complete(pods)
    assert await client.call("SET", "limit:kept", "without") == b"OK"
    for pod in (*VALKEYS, *SENTINELS):
        pods.kill(pod)
        pods.forget(pod)

    first = mount(pods, authority, "first")
    pods.certificate = pods.directory / "etc-tls/ca.crt"
    await complete(pods)
    assert await show(pods, [*VALKEYS, *SENTINELS], first)
    assert [pod for pod in VALKEYS if not pods.is_ready(pod)] == []
    # A probe that is a client leaves no warning, and one of a server that is gone fails.
    lines = {pod: (pods.directory / pod / "log").read_text("utf-8", "replace").count("\n") for pod in SENTINELS}
    assert [pod for pod in (*VALKEYS, *SENTINELS) if not pods.answers(pod)] == []
    for pod, before in lines.items():
        after = (pods.directory / pod / "log").read_text("utf-8", "replace").splitlines()[before:]
        assert [line for line in after if "Error accepting" in line] == []
    for pod in (*VALKEYS, *SENTINELS):
        port, once = PORTS[pod.partition("-")[0]], Retry(NoBackoff(), 0)
        plain: Any = redis.asyncio.Redis(host=pods.address(pod), port=port, protocol=2, retry=once)
        async with plain:
            with pytest.raises(redis.exceptions.ConnectionError):
                await plain.ping()

    # The very URL of the example, with the pods' addresses in the place of their names.
    url = (EXAMPLE / "redis-operator-url").read_text("utf-8").strip()
    url = url.replace("/etc/hoso24/secrets/redis-ca.crt", str(pods.certificate))
    for pod in SENTINELS:
        url = url.replace(pod.replace("-", "-node-"), pods.address(pod))
    assert await client.call("SET", "limit:kept", "yes") == b"OK"

    renewed = mount(pods, authority, "renewed")
    await until(lambda: show(pods, VALKEYS, renewed), within=PATIENCE)

    async def all_ended() -> bool:
        return all(pods.running[pod].poll() is not None for pod in SENTINELS)

    await until(all_ended, within=PATIENCE)
    assert await client.call("GET", "limit:kept") == b"yes"  # whoever is connected stays so
    await client.close()
    for pod in SENTINELS:  # as the kubelet does
        pods.kill(pod)
    await complete(pods)
    assert await show(pods, SENTINELS, renewed)


# kubectl's `exec POD … -- COMMAND`, in that pod's place on this machine; the Secret is the example's.
KUBECTL = """
import os, subprocess, sys

words = sys.argv[1:]
if "secret" in words:
    print(open(os.environ["EXAMPLE"] + "/redis-operator-url", encoding="utf-8").read())
else:
    end = words.index("--")
    pod = next(word for word in words[words.index("exec") + 1 : end] if not word.startswith("-"))
    network, home = os.environ["NETWORK"], os.environ["PODS"]
    environment = os.environ | {"HOSTNAME": pod, "OWN_ADDRESS": f"{network}.{10 + int(pod[-1])}"}
    places = [("/etc/valkey-", f"{home}/etc-"), ("/etc/valkey/", f"{home}/{pod}/")]
    command = words[end + 1 :]
    for before, after in places:
        command = [word.replace(before, after) for word in command]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)
"""


async def test_person_on_call_asks_the_primary_as_the_operator_or_one_of_them_as_administrator(encrypted: Pods) -> None:
    pods, authority = encrypted, Authority(encrypted.directory, "authority")
    mount(pods, authority, "first")
    pods.certificate = pods.directory / "etc-tls/ca.crt"
    await complete(pods)
    write_program(pods.directory / "bin/kubectl", f"#!{sys.executable} -IS\n{KUBECTL}")
    environment = {
        "PATH": f"{pods.directory / 'bin'}:{os.environ['PATH']}",
        "EXAMPLE": str(EXAMPLE),
        "NETWORK": pods.network,
        "PODS": str(pods.directory),
    }

    def operate(*words: str) -> str:
        command = [str(ROOT / "k8s/operate"), "production", *words]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    primary = await pods.primary()
    assert primary is not None
    told = await asyncio.to_thread(operate, "valkey-cli", "info", "replication")
    assert "role:master" in told, told
    assert "connected_slaves:2" in told
    assert "volatile-lru" in await asyncio.to_thread(operate, "valkey-cli", "config", "get", "maxmemory-policy")
    assert "NOPERM" in await asyncio.to_thread(operate, "valkey-cli", "config", "set", "maxmemory-policy", "noeviction")
    replica = next(each for each in VALKEYS if each != primary)
    assert "role:slave" in await asyncio.to_thread(operate, f"--node={replica}", "valkey-cli", "info", "replication")
    assert (
        await asyncio.to_thread(operate, f"--node={replica}", "--role=admin", "valkey-cli", "acl", "load")
    ) == "OK\n"
