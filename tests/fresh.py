"""Both commands on a machine that has nothing: a bare Debian 12 with python3-venv, make and git, as root and as a user.

`make fresh` runs this as root, with mmdebstrap installed. It makes such a system in a temporary directory, clones what
is committed here into it, waits until `make up` is ready, stops it, and runs `make test`. How this machine reaches
packages (sources and proxies of apt, configuration of pip and npm, certificates) holds there as well. Mounts and
processes are in namespaces of their own and end with them; the directory is removed.

FRESH_USERS: who runs it, `root citizen` by default; FRESH_TESTS: arguments for pytest instead of the whole suite;
FRESH_MINUTES: after how long everything is ended, 90 by default.
"""

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "bookworm"
PACKAGES = "python3-venv,make,git"
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
HOMES = {"root": "root", "citizen": "home/citizen"}
READY_WITHIN = 600.0
"""Seconds until `make up` has to be ready, with everything it installs; with a near index it takes half a minute."""
ENDS_WITHIN = 60.0
ISOLATED = ["unshare", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh"]
"""Mounts and processes of what follows end with it; sh collects processes whose parents are gone."""
PASSED_ON = re.compile(
    r"(?i:(https?|no|all)_proxy)|PIP_.+|(?i:npm_config)_.+"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
)
"""Names of variables that say how packages are reached."""


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(Path(sys.argv[2]), sys.argv[3:]))
    check()
    users = os.environ.get("FRESH_USERS", " ".join(HOMES)).split()
    patience = 60 * float(os.environ.get("FRESH_MINUTES", "90"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="hoso24-fresh-", dir="/var/tmp"))
    work.chmod(0o755)
    try:
        system = work / "system"
        say(f"a Debian 12 with {PACKAGES.replace(',', ', ')} in {work}")
        make_system(work, system)
        for user in users:
            clone(system, user)
        run([*ISOLATED, sys.executable, __file__, "--inside", str(system), *users], within=patience)
    except subprocess.CalledProcessError as error:
        sys.exit(f"make fresh: {shlex.join(error.cmd[:4])} … failed ({error.returncode})")
    except subprocess.TimeoutExpired:
        sys.exit(f"make fresh: not done within {patience / 60:.0f} minutes (FRESH_MINUTES)")
    finally:
        remove(work)


def check() -> None:
    if os.geteuid() != 0:
        sys.exit("make fresh: needs root, which alone can make a system and mount")
    for program, package in {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "git": "git"}.items():
        if shutil.which(program) is None:
            sys.exit(f"make fresh: {program} is missing: apt-get install {package}")


def remove(work: Path) -> None:
    """Again if need be: processes of the namespace that have just been killed may still write."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would leave half of it behind
    for _ in range(10):
        if subprocess.run(["rm", "-rf", "--one-file-system", str(work)], check=False).returncode == 0:
            break
        time.sleep(0.5)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(command: list[str], *, within: float = 900.0) -> None:
    """TimeoutExpired and CalledProcessError as with subprocess.run; the command is ended then."""
    with subprocess.Popen(command) as process:
        try:
            if process.wait(within) != 0:
                raise subprocess.CalledProcessError(process.returncode, command)
        finally:
            process.kill()


# -- the system -------------------------------------------------------------------------------------------------------


def make_system(work: Path, system: Path) -> None:
    """Make it in `system`, with everything in it but mounts."""
    (work / "apt.conf").write_text(apt_configuration(), "utf-8")
    options = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--aptopt={work / 'apt.conf'}"]
    run([*ISOLATED, "mmdebstrap", *options, RELEASE, str(system), *apt_sources()])
    (system / "etc/hosts").write_text(HOSTS, "utf-8")
    shutil.copy("/etc/resolv.conf", system / "etc/resolv.conf")
    (system / "etc/pip.conf").write_text(pip_configuration(), "utf-8")
    (system / "etc/npmrc").write_text(npm_configuration(), "utf-8")
    run(["chroot", str(system), "useradd", "--create-home", "--shell", "/bin/bash", "citizen"])


def clone(system: Path, user: str) -> None:
    """What is committed, in the user's home, with its history and without a way back."""
    place = system / HOMES[user] / "hoso24"
    run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(place)])
    run(["git", "-C", str(place), "remote", "remove", "origin"])
    run(["chroot", str(system), "chown", "-R", f"{user}:{user}", f"/{HOMES[user]}/hoso24"])


def apt_configuration() -> str:
    """Proxies and what else this machine's apt has been told about fetching."""
    lines = output(["apt-config", "dump", "Acquire"]).splitlines()
    wanted = re.compile(r'Acquire::(https?|ftp|Check-|Retries).* ".+";')
    return "".join(f"{line}\n" for line in lines if wanted.fullmatch(line))


def apt_sources() -> list[str]:
    """This machine's files of sources, if they are the release's; mmdebstrap's own choice otherwise."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    known = [each for each in files if each.suffix in {".list", ".sources"} and each.is_file()]
    return [str(each) for each in known if re.search(rf"\b{RELEASE}\b", each.read_text("utf-8"))]


def pip_configuration() -> str:
    """This machine's, whichever of pip's files it stands in."""
    sections: dict[str, list[str]] = {}
    for line in output([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        if match := re.fullmatch(r"([a-z]+)\.([a-z-]+)=(.+)", line):
            value = str(ast.literal_eval(match[3])).replace("\n", "\n    ")
            sections.setdefault(match[1], []).append(f"{match[2]} = {value}\n")
    return "".join(f"[{name}]\n{''.join(lines)}" for name, lines in sections.items())


def npm_configuration() -> str:
    files = (Path("/etc/npmrc"), Path("/usr/etc/npmrc"), Path.home() / ".npmrc")
    return "".join(f"{each.read_text('utf-8')}\n" for each in files if each.is_file())


def output(command: list[str]) -> str:
    """What it prints; nothing where there is no such program."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ""


# -- inside the namespaces --------------------------------------------------------------------------------------------


def inside(system: Path, users: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or what is started would ignore it, if we do
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    mount_all(system, paths_in([*passed_on.values(), *(read(system / "etc" / name) for name in ("pip.conf", "npmrc"))]))
    outcomes: list[tuple[str, str, str, float]] = []
    for user in users:
        environ = passed_on | environment(user)
        for name, command in (("make up", up), ("make test", test)):
            say(f"{name}, as {user}")
            began = time.monotonic()
            outcomes.append((user, name, command(system, user, environ), time.monotonic() - began))
    say("done")
    for user, name, trouble, seconds in outcomes:
        print(f"{name:10} as {user:8} {seconds:5.0f} s  {trouble or 'good'}")
    return any(trouble for _, _, trouble, _ in outcomes)


def environment(user: str) -> dict[str, str]:
    home = f"/{HOMES[user]}"
    variables = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "TERM": "dumb"}
    path = (
        "/usr/local/bin:/usr/bin:/bin"
        if user != "root"
        else "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    return variables | {"PATH": path, "NPM_CONFIG_GLOBALCONFIG": "/etc/npmrc"}


def mount_all(system: Path, wanted: Iterable[Path]) -> None:
    """What a running system has in /proc, /sys and /dev, and files of this machine that its configuration names."""
    mount(system / "proc", "-t", "proc", "proc")
    mount(system / "sys", "-t", "sysfs", "-o", "ro", "sysfs")
    devices = system / "dev"
    mount(devices, "-t", "tmpfs", "-o", "mode=755", "tmpfs")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (devices / name).touch()
        mount(devices / name, "--bind", f"/dev/{name}")
    for name in ("pts", "shm"):
        (devices / name).mkdir()
    mount(devices / "pts", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620", "devpts")
    mount(devices / "shm", "-t", "tmpfs", "-o", "mode=1777", "tmpfs")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        (devices / name).symlink_to(target)
    for path in sorted(wanted):
        place = system / path.relative_to("/")
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mount(place, "--bind", str(path))
        mount(place, "-o", "remount,bind,ro")


def mount(place: Path, *words: str) -> None:
    subprocess.run(["mount", *words, str(place)], check=True)


def paths_in(texts: Iterable[str]) -> set[Path]:
    """The files and directories of this machine that are named there; of an index in files, the directory it is in."""
    found: set[Path] = set()
    for word in " ".join(texts).replace("=", " ").split():
        url = urllib.parse.urlsplit(word)
        if url.scheme == "file":
            found.add(Path(url.path).parent)
        elif word.startswith("/"):
            found.add(Path(word))
    return {path for path in found if path.exists() and len(path.parts) > 2}


def read(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


@contextlib.contextmanager
def make(target: str, system: Path, user: str, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`make <target>` in the user's clone, in a session of its own; killed at the end if it is still there."""
    variables = [f"{name}={value}" for name, value in environ.items()]
    shell = ["sh", "-c", f"cd ~/hoso24 && exec make {target}"]
    command = ["chroot", f"--userspec={user}:{user}", str(system), "env", "-i", *variables, *shell]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def up(system: Path, user: str, environ: Mapping[str, str]) -> str:
    """What is wrong with `make up`; nothing if it gets ready, shows a page, and leaves no process once stopped."""
    state = system / HOMES[user] / "hoso24/.hoso24/up.json"
    with make("up", system, user, environ) as process:
        threading.Thread(target=show, args=(process,), daemon=True).start()
        began = time.monotonic()
        while not state.exists():
            if process.poll() is not None:
                return f"ended with {process.returncode} before it was ready"
            if time.monotonic() > began + READY_WITHIN:
                return f"not ready within {READY_WITHIN:.0f} s"
            time.sleep(0.1)
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        with urllib.request.urlopen(json.loads(read(state))["lookup"] + "/tra-cuu", timeout=10) as page:  # noqa: S310
            page.read()
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            return f"not stopped within {ENDS_WITHIN:.0f} s"
    left = still_running(system)
    return f"left running: {', '.join(left)}" if left else ""


def test(system: Path, user: str, environ: Mapping[str, str]) -> str:
    """What is wrong with `make test`."""
    chosen = {"PYTEST_ADDOPTS": os.environ["FRESH_TESTS"]} if "FRESH_TESTS" in os.environ else {}
    with make("test", system, user, {**environ, **chosen}) as process:
        show(process)
        return "" if process.wait() == 0 else f"ended with {process.returncode}"


def show(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)


def still_running(system: Path) -> list[str]:
    """Command lines of living processes of the system, once those that are ending have had time to."""
    deadline = time.monotonic() + 10
    while True:
        found = []
        for process in (system / "proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "root") == str(system):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        if not any(found) or time.monotonic() > deadline:
            return [each for each in found if each]
        time.sleep(0.1)


if __name__ == "__main__":
    main()
