"""`hoso24 up` runs the whole system on one machine."""

import asyncio
import json
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import click
import segno

from intake import clients
from intake.books import notary_app
from intake.books.seal import SealKeys
from intake.books.tree_files import Unusable
from intake.bulk.loader import Import, ImportTally
from intake.desk import officer_list
from intake.desk.sign_in import NoLink, new_link
from intake.local import sample
from intake.papers import keys as paper_keys
from intake.settings import BooksSettings, LinkSettings
from lookup import code as codes
from lookup import redis_users, sandbox, schema
from lookup.catalogue import load
from lookup.catalogue.files import CannotRead
from lookup.clock import VIETNAM
from lookup.lookup_key import KeyRing
from lookup.schema import grants
from lookup.status import Status
from ops.local.accounts import UP_USER, Account, write_private
from ops.local.cannot_start import CannotStart
from ops.local.ports import free_port
from ops.local.postgres import PostgresServer
from ops.local.servers import kept_elsewhere
from ops.local.supervisor import Errand, Supervised, Supervisor, write_up_file
from ops.local.valkey import ValkeyServer
from ops.settings import are_server_urls, read
from ops.stores.postgres import connect_directly

CLIENT, SANDBOX_CLIENT = "local-demo", "local-sandbox"
OFFICER = "binh"
"""The sample's officer at a counter."""
SAMPLE_DOSSIERS = 300
SAMPLE_DAYS = 15
SAMPLE_FIRST = 90_001
"""The first number of their sequences, far above the numbers of a sample that is imported later."""
ROLES = grants.NAMES
ROLE_OF = {
    "relay": "relay",
    "lookup": "reader",
    "intake": "writer",
    "notary": "notary",
    "tidy": "archivist",
    "webhooks": "webhooks",
    "notices": "notices",
    "desk": "desk",
    "figures": "figures",
}
"""Process → its role in PostgreSQL."""
ONLY_FOR = {
    "HOSO24_LOOKUP_KEY_SECRETS": {"lookup", "intake", "desk"},
    "HOSO24_SEAL_KEYS": {"intake", "notary", "desk"},
    "HOSO24_BOOKS_KEY": {"notary"},
    "HOSO24_WEBHOOK_SECRET": {"intake", "webhooks"},
    "HOSO24_PAPER_KEY_FILE": {"intake", "desk"},
    "HOSO24_NOTICE_SECRET": {"notices"},
    "HOSO24_SMTP_URL": {"notices"},
}
"""Secret → the processes that are given it; every other setting goes to all."""
PROCESSES = ("relay", "lookup", "intake", "notary", "webhooks", "notices", "desk")
ERRANDS = {"tidy": 3600.0, "figures": 300.0}
"""Command → how many seconds pass between two runs of it: figures more often than elsewhere, to be looked at."""
MAILS = "mails"
"""Folder in the directory into which notices are written as mails, unless HOSO24_SMTP_URL names a server."""
BOOKS_ORIGIN = "hoso24.example/books"
"""The name of the books that are kept here, whatever ports the processes have."""
STAYS = ("lock", "up.json")
"""Files in the directory that are the supervisor's, and no data."""
ASIDE = "before-"
"""What the folder's name begins with into which `--fresh` moves the data; the date follows."""
SERVERS = ("PG", "REDIS")
"""The second word of the variables that hold a server's URL."""
PREFERRED_PORTS = {
    "lookup": 8080,
    "lookup_admin": 8081,
    "intake": 8090,
    "intake_admin": 8091,
    "relay_admin": 8092,
    "notary": 8093,
    "notary_admin": 8094,
    "desk": 8095,
    "desk_admin": 8096,
    "webhooks_admin": 8097,
    "notices": 8099,
    "notices_admin": 8098,
}

# Of the first thousand only: status has no index, and the database may hold the dossiers of a whole country.
SHOWN = f"""
SELECT DISTINCT ON (status) code, status, key_serial
  FROM (SELECT code, status, key_serial, removed, submitted_at
          FROM dossier
         WHERE {sandbox.REAL}
         LIMIT 1000) AS few
 WHERE status IN (4, 5, 10) AND NOT removed
 ORDER BY status, submitted_at DESC, code
"""  # noqa: S608 - our own words

IS_FURNISHED = f"""
SELECT EXISTS (SELECT FROM dossier WHERE {sandbox.REAL})
"""  # noqa: S608 - our own words


@dataclass(frozen=True)
class Secrets:
    """Passwords, keys and tokens: made at the first start, read again at later ones."""

    passwords: Mapping[str, str]
    redis_passwords: Mapping[str, str]
    lookup_keys: str
    seal_keys: str
    books_key: str
    webhook_secret: str
    notice_secret: str
    token: str
    sandbox_token: str

    @classmethod
    def of(cls, directory: Path) -> "Secrets":
        """The secrets in this directory; makes those that are not there."""
        path = directory / "secrets.json"
        made: dict[str, Any] = {
            "passwords": {role: secrets.token_hex(16) for role in ROLES},
            "redis_passwords": {user: secrets.token_hex(16) for user in redis_users.RIGHTS},
            "lookup_keys": f"0:{secrets.token_hex(32)}",
            "seal_keys": f"up:{secrets.token_hex(32)}",
            "books_key": secrets.token_hex(32),
            "webhook_secret": secrets.token_hex(32),
            "notice_secret": secrets.token_hex(32),
            "token": clients.new_token(CLIENT),
            "sandbox_token": clients.new_token(SANDBOX_CLIENT),
        }
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        whole = made | kept
        for group in ("passwords", "redis_passwords"):  # a role or user that came later has none yet
            whole[group] = {**made[group], **whole[group]}
        if whole != kept:
            write_private(path, json.dumps(whole, indent=2) + "\n")
        return cls(**whole)


@dataclass(frozen=True)
class ServerUrls:
    """The URLs of PostgreSQL, by role, and of Redis, by user; `admin`: the superuser's, if the roles are made here."""

    postgres: Mapping[str, str]
    redis: Mapping[str, str]
    admin: str | None = None


def up(directory: Path, *, samples: bool, services: bool = True, archive: bool = False, fresh: bool = False) -> None:
    """Start everything, print the addresses, and supervise the processes until SIGINT or SIGTERM.

    Without `services` only the servers run, with a prepared database; the services are started by hand. With `archive`
    PostgreSQL keeps its log, so that it can be restored to any moment since a base backup. With `fresh` what a run
    before left in the directory is set aside, never what a server named by the environment holds. Raises CannotStart.
    """
    began = time.monotonic()
    directory.mkdir(exist_ok=True)
    with Supervisor(directory, _say) as stack:
        if fresh:
            _set_aside(directory)
        own = Secrets.of(directory)
        _warn_of_a_shared_account()
        servers = _servers(stack, directory, own, archive=archive)
        ports = _ports(stack)
        environ = _environ(directory, servers, own, ports)
        environ["HOSO24_SANDBOX"] = os.environ.get("HOSO24_SANDBOX") or ("on" if samples else "off")
        _prepare_database(stack, directory, servers, own, samples=samples)
        books_key = _begin_books(environ)
        stack.check()
        if services:
            _say("Starting relay, lookup, intake, notary, webhooks and notices …")
            own_environs = {name: _of_process(name, environ, servers) for name in PROCESSES}
            stack.start(*(_service(name, directory, each, ports) for name, each in own_environs.items()))
            for name, every in ERRANDS.items():
                stack.repeat(_errand(name, every, directory, _of_process(name, environ, servers)))
        else:
            environ |= {"HOSO24_PG_ADMIN_URL": servers.admin} if servers.admin else {}
        shown = asyncio.run(_shown(servers, own))
        desk = asyncio.run(_desk_link(environ, servers)) if services else None
        _write(directory, servers, own, ports if services else {}, environ, shown)
        if services:
            _introduce(directory, ports, own, shown, books_key, desk, time.monotonic() - began)
        else:
            _say(f"\nThe servers are ready; their addresses are in {directory / 'environ'}. Stop: Ctrl-C.\n")
        stack.run()
        stack.say("Stopping …")
    stack.say("Everything has stopped. The data are kept for the next `make up`.")


def _set_aside(directory: Path) -> None:
    """Move everything that a run before left here into a folder with the date, secrets and books as well.

    Raises CannotStart when the environment names a PostgreSQL: its data are not ours to set aside.
    """
    if _given():
        raise CannotStart(
            "`--fresh` begins anew with the PostgreSQL that `hoso24 up` starts itself, but HOSO24_PG_…_URL name one: "
            "name a new, empty database in them, and leave --fresh out."
        )
    left = [path for path in directory.iterdir() if path.name not in STAYS and not path.name.startswith(ASIDE)]
    if not left:
        return
    aside = directory / f"{ASIDE}{datetime.now(VIETNAM):%Y-%m-%dT%H%M%S}"
    aside.mkdir()
    for path in left:
        path.rename(aside / path.name)
    places = [aside]
    for server in ("postgres", "redis"):
        if (place := kept_elsewhere(directory / server)) is not None:
            places.append(place.rename(place.with_name(f"{place.name}-{aside.name}")))
    _say(f"The data of before are in {' and '.join(map(str, places))}; delete that when you need nothing of it.")


def _servers(stack: Supervisor, directory: Path, own: Secrets, *, archive: bool) -> ServerUrls:
    postgres, admin = _postgres(stack, directory, own, archive=archive)
    given = os.environ.get("HOSO24_REDIS_URL", "")
    if given:
        _say("Using the Redis of HOSO24_REDIS_URL.")
        return ServerUrls(postgres, dict.fromkeys(redis_users.RIGHTS, given), admin)
    _say("Starting Valkey …")
    users = dict.fromkeys(redis_users.lines(own.redis_passwords), "")
    server = stack.add(ValkeyServer.start(directory / "redis", settings=users, reaper=stack.reaper))
    for note in server.notes:
        _say(note)
    redis = {user: _with_user(server.url, user, own.redis_passwords[user], "0") for user in redis_users.RIGHTS}
    return ServerUrls(postgres, redis, admin)


def _warn_of_a_shared_account() -> None:
    account = Account.unprivileged()
    if account is not None and account.shared:
        _say(
            f"Warning: root starts the servers as {account.name}, an account that other programs of this machine may "
            "run as too: each of them can read the servers' data and passwords, and stop them. Name an account of "
            f"their own in {UP_USER}, or let another account than root own this checkout."
        )


def _postgres(
    stack: Supervisor, directory: Path, own: Secrets, *, archive: bool
) -> tuple[Mapping[str, str], str | None]:
    """The URL for each role, and the superuser's if the roles are made here."""
    names = {role: f"HOSO24_PG_{role.upper()}_URL" for role in ROLES}
    given = _given()
    if given:
        missing = [names[role] for role in ROLES if role not in given]
        if missing:
            raise CannotStart(f"Some HOSO24_PG_…_URL are set, but not {', '.join(missing)}: set all seven, or none.")
        admin = os.environ.get("HOSO24_PG_ADMIN_URL") or None
        for name, url in {**{names[role]: given[role] for role in ROLES}, "HOSO24_PG_ADMIN_URL": admin}.items():
            if url is not None and not are_server_urls(url):
                raise CannotStart(f"{name} is not the URL of a server. Percent-encode its password.")
        _say("Using the PostgreSQL of HOSO24_PG_…_URL.")
        return given, admin
    _say("Starting PostgreSQL …")
    server = PostgresServer.start(
        directory / "postgres",
        port=_port_of_last_time(directory / "postgres-port"),
        settings={"archive_mode": "on"} if archive else {},
        reaper=stack.reaper,
    )
    stack.add(server)
    write_private(directory / "postgres-port", f"{server.port}\n")
    _link(directory / "bin", server.bin_directory)
    for note in server.notes:
        _say(note)
    urls = {role: _with_user(server.admin_url, f"hoso24_{role}", own.passwords[role], "hoso24") for role in ROLES}
    return urls, server.admin_url


def _given() -> dict[str, str]:
    """Role → URL, of the PostgreSQL that the environment names."""
    named = {role: os.environ.get(f"HOSO24_PG_{role.upper()}_URL", "") for role in ROLES}
    return {role: url for role, url in named.items() if url}


def _link(path: Path, target: Path) -> None:
    """Link the folder of psql, pg_basebackup and others of the server's version to `path`."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _port_of_last_time(path: Path) -> int | None:
    """The port of the last start, so that clients can connect again after a restart; None if it is in use now."""
    port = int(path.read_text("utf-8")) if path.exists() else 0
    return port if port and free_port(port) == port else None


def _with_user(url: str, user: str, password: str, database: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(netloc=f"{user}:{quote(password, safe='')}@{parts.hostname}:{parts.port}", path=f"/{database}")
    )


def _ports(stack: Supervisor) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name, preferred in PREFERRED_PORTS.items():
        ports[name] = free_port(preferred, avoid={*ports.values(), *PREFERRED_PORTS.values()} - {preferred})
        if ports[name] != preferred:
            _say(f"Port {preferred} is taken; {name.replace('_', ' ')} uses {ports[name]}.")
    stack.check()
    return ports


def _environ(directory: Path, servers: ServerUrls, own: Secrets, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        **{f"HOSO24_PG_{role.upper()}_URL": servers.postgres[role] for role in ROLES},
        "HOSO24_REDIS_URL": servers.redis["operator"],
        "HOSO24_LOOKUP_KEY_SECRETS": os.environ.get("HOSO24_LOOKUP_KEY_SECRETS") or own.lookup_keys,
        "HOSO24_SEAL_KEYS": os.environ.get("HOSO24_SEAL_KEYS") or own.seal_keys,
        "HOSO24_BOOKS": str(directory.absolute() / "books"),
        "HOSO24_BOOKS_KEY": os.environ.get("HOSO24_BOOKS_KEY") or own.books_key,
        "HOSO24_BOOKS_ORIGIN": os.environ.get("HOSO24_BOOKS_ORIGIN") or BOOKS_ORIGIN,
        "HOSO24_WEBHOOK_SECRET": os.environ.get("HOSO24_WEBHOOK_SECRET") or own.webhook_secret,
        **_paper_files(directory.absolute()),
        "HOSO24_NOTICE_SECRET": os.environ.get("HOSO24_NOTICE_SECRET") or own.notice_secret,
        "HOSO24_SMTP_URL": os.environ.get("HOSO24_SMTP_URL") or (directory.absolute() / MAILS).as_uri(),
        "HOSO24_NOTICE_SENDER": os.environ.get("HOSO24_NOTICE_SENDER") or "khong-tra-loi@hoso24.example",
        "HOSO24_WEBHOOK_NETWORKS": os.environ.get("HOSO24_WEBHOOK_NETWORKS") or "127.0.0.0/8,::1/128",
        "HOSO24_HOST": os.environ.get("HOSO24_HOST") or "127.0.0.1",
        "HOSO24_TRUSTED_PROXIES": os.environ.get("HOSO24_TRUSTED_PROXIES") or "127.0.0.0/8,::1/128",
        "HOSO24_PUBLIC_URL": os.environ.get("HOSO24_PUBLIC_URL") or f"http://127.0.0.1:{ports['lookup']}",
        "HOSO24_SITE_OWNER": os.environ.get("HOSO24_SITE_OWNER") or "Bảo hiểm xã hội Xứ Mẫu (hư cấu, bản chạy thử)",
        "HOSO24_SITE_OWNER_CONTACT": os.environ.get("HOSO24_SITE_OWNER_CONTACT") or "hotro@bhxh-xu-mau.example",
        "HOSO24_HOTLINE": os.environ.get("HOSO24_HOTLINE") or "1900 0000 (hư cấu)",
        "HOSO24_LOOKUP_PORT": str(ports["lookup"]),
        "HOSO24_LOOKUP_ADMIN_PORT": str(ports["lookup_admin"]),
        "HOSO24_INTAKE_PORT": str(ports["intake"]),
        "HOSO24_INTAKE_ADMIN_PORT": str(ports["intake_admin"]),
        "HOSO24_RELAY_ADMIN_PORT": str(ports["relay_admin"]),
        "HOSO24_NOTARY_PORT": str(ports["notary"]),
        "HOSO24_NOTARY_ADMIN_PORT": str(ports["notary_admin"]),
        "HOSO24_DESK_URL": os.environ.get("HOSO24_DESK_URL") or f"http://127.0.0.1:{ports['desk']}",
        "HOSO24_DESK_PORT": str(ports["desk"]),
        "HOSO24_DESK_ADMIN_PORT": str(ports["desk_admin"]),
        "HOSO24_WEBHOOKS_ADMIN_PORT": str(ports["webhooks_admin"]),
        "HOSO24_NOTICES_URL": os.environ.get("HOSO24_NOTICES_URL") or f"http://127.0.0.1:{ports['notices']}",
        "HOSO24_NOTICES_PORT": str(ports["notices"]),
        "HOSO24_NOTICES_ADMIN_PORT": str(ports["notices_admin"]),
        "HOSO24_CLIENT_WRITES": os.environ.get("HOSO24_CLIENT_WRITES") or "60000",  # one client stands for all desks
        "HOSO24_DRAIN_SECONDS": os.environ.get("HOSO24_DRAIN_SECONDS") or "0.5",  # no load balancer to wait for
    }


def _paper_files(directory: Path) -> dict[str, str]:
    """The settings that name the key that stamps papers and the public keys: those given, or files made here once."""
    names = ("HOSO24_PAPER_KEY_FILE", "HOSO24_PAPER_PUBLIC_KEYS")
    if any(os.environ.get(name) for name in names):
        return {name: os.environ[name] for name in names if os.environ.get(name)}
    key_file, public_keys = directory / "paper-key.pem", directory / "paper-keys.json"
    if not key_file.exists():
        paper_keys.make(key_file, public_keys, issuer="Bảo hiểm xã hội Xứ Mẫu (hư cấu)", since=date.today())
    return dict(zip(names, map(str, (key_file, public_keys)), strict=True))


def _of_process(name: str, environ: Mapping[str, str], servers: ServerUrls) -> dict[str, str]:
    """The settings of one process: of the servers' URLs only its own, of the secrets those it works with."""
    shared = {
        key: value
        for key, value in environ.items()
        if key.partition("_")[2].partition("_")[0] not in SERVERS and name in ONLY_FOR.get(key, {name})
    }
    role = ROLE_OF[name]
    own = {f"HOSO24_PG_{role.upper()}_URL": servers.postgres[role]}
    return shared | own | ({"HOSO24_REDIS_URL": servers.redis[name]} if name in servers.redis else {})


def _prepare_database(stack: Supervisor, directory: Path, servers: ServerUrls, own: Secrets, *, samples: bool) -> None:
    try:
        if servers.admin is not None:
            asyncio.run(_recovered(servers.admin, stack.check))
            asyncio.run(schema.create_roles(servers.admin, *(servers.postgres[role] for role in ROLES)))
        asyncio.run(schema.migrate(servers.postgres["owner"], lambda what: _say(f"Applying {what} …")))
        stack.check()
        asyncio.run(_furnish(servers, own, samples=samples))
    except schema.MadeBefore as error:
        step = f"`hoso24 up --fresh` (`make up UP=--fresh`) sets what is in {directory} aside and begins anew."
        raise CannotStart(str(error) if _given() else f"{error} {step}") from error
    except (OSError, asyncpg.PostgresError, schema.CannotMigrate) as error:
        raise CannotStart(f"The database cannot be prepared: {type(error).__name__}: {error}") from error


async def _recovered(admin_url: str, check: Callable[[], None]) -> None:
    """Wait until PostgreSQL accepts writes: a server that is being restored replays its log first."""
    connection = await asyncpg.connect(admin_url)
    try:
        recovering = await connection.fetchval("SELECT pg_is_in_recovery()")
        if recovering:
            _say("PostgreSQL is replaying its log …")
        while recovering:
            check()
            await asyncio.sleep(0.05)
            recovering = await connection.fetchval("SELECT pg_is_in_recovery()")
    finally:
        await connection.close()


async def _furnish(servers: ServerUrls, own: Secrets, *, samples: bool) -> None:
    """Install the sample catalogue, the sandbox and two clients, and import sample dossiers into an empty database."""
    if samples:
        await _install_catalogue(servers.postgres["owner"])
    await _add_clients(servers.postgres["owner"], own)
    if samples:
        await _list_officers(servers.postgres["owner"])
    connection = await asyncpg.connect(servers.postgres["writer"])
    try:
        if samples and not await connection.fetchval(IS_FURNISHED):
            _say(f"Importing {SAMPLE_DOSSIERS} sample dossiers (fictitious people and agencies) …")
            await _import_samples(connection, own)
    finally:
        await connection.close()


async def _install_catalogue(owner_url: str) -> None:
    """The sample catalogue and the sandbox, unless another catalogue is loaded."""
    connection = await connect_directly(lambda: owner_url)
    try:
        loaded = (await load.stored(connection))[0].loaded
        if loaded is None or loaded.sample:
            await load.install_sample(connection)
            await load.install_sandbox(connection)
    except CannotRead:
        _say("This database has a catalogue that was not loaded from files; it stays as it is.")
    finally:
        await connection.close()


async def _list_officers(owner_url: str) -> None:
    """The sample's officers, where none is listed and their agencies are there."""
    connection = await connect_directly(lambda: owner_url)
    try:
        if not await officer_list.officers(connection):
            content = resources.files("intake.desk").joinpath("sample", "officers.csv").read_bytes()
            await officer_list.load(connection, officer_list.read(content, (await load.stored(connection))[0]))
    except (CannotRead, officer_list.ListRefused):
        _say("The sample catalogue is not loaded, so there are no officers. `hoso24 officer load FILE` lists yours.")
    finally:
        await connection.close()


async def _add_clients(owner_url: str, own: Secrets) -> None:
    """This machine's clients with their tokens: one of the sample's offices, one of the sandbox.

    What the database has already stays as it is.
    """
    connection = await connect_directly(lambda: owner_url)
    try:
        agencies = await connection.fetchval("SELECT array_agg(code) FROM agency") or ()
        if "G99" in agencies:
            await _add_client(connection, CLIENT, "this machine's own (sample)", "G99", own.token)
        elif not await clients.knows(connection, own.token):
            _say(f"The sample catalogue is not loaded, so there is no client of the intake. {load.STEP}")
        if "X99" in agencies:
            await _add_client(connection, SANDBOX_CLIENT, "a developer's (sandbox)", "X99", own.sandbox_token, True)
    except clients.ClientRefused as refused:
        raise CannotStart(f"This machine's clients of the intake cannot be made: {refused}") from None
    finally:
        await connection.close()


async def _add_client(
    connection: Any, client_id: str, name: str, agency: str, token: str, sandbox: bool = False
) -> None:
    if await clients.knows(connection, token):
        return
    if await connection.fetchval("SELECT EXISTS (SELECT FROM client WHERE id = $1)", client_id):
        await clients.add_token(connection, client_id, token)
    else:
        await clients.add_client(connection, client_id, name, agency, clients.ACTIONS, token, sandbox=sandbox)


async def _import_samples(connection: Any, own: Secrets) -> ImportTally:
    keys = KeyRing.from_text(os.environ.get("HOSO24_LOOKUP_KEY_SECRETS") or own.lookup_keys)
    seals = SealKeys.from_text(os.environ.get("HOSO24_SEAL_KEYS") or own.seal_keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.ndjson"
        yesterday = date.today() - timedelta(days=1)
        sample.write(path, SAMPLE_DOSSIERS, until=yesterday, days=SAMPLE_DAYS, first=SAMPLE_FIRST)
        return await Import(connection, path, keys, seals).run()


def _begin_books(environ: Mapping[str, str]) -> str:
    """Sign an empty tree where no books are yet: with a database of before they take in its log from the first event.

    Returns the public half of the key that signs them.
    """
    settings = read(BooksSettings, environ)
    if not settings.books.exists():
        settings.books.mkdir(mode=0o700)
        try:
            notary_app.begin(settings)
        except (OSError, Unusable) as error:
            raise CannotStart(f"The books cannot be begun: {error}") from error
    return settings.signer().key.text


def _service(name: str, directory: Path, environ: Mapping[str, str], ports: Mapping[str, int]) -> Supervised:
    return Supervised(
        name=name,
        argv=[sys.executable, "-m", "hoso24", name],
        environ=environ,
        ready_url=f"http://127.0.0.1:{ports[f'{name}_admin']}/readyz",
        log_path=directory / "logs" / f"{name}.log",
    )


def _errand(name: str, every: float, directory: Path, environ: Mapping[str, str]) -> Errand:
    argv = [sys.executable, "-m", "hoso24", name]
    return Errand(name, argv, environ, directory / "logs" / f"{name}.log", every=every)


async def _shown(servers: ServerUrls, own: Secrets) -> list[dict[str, str]]:
    """Up to three dossiers to try, one in process first, each with its lookup key."""
    keys = KeyRing.from_text(os.environ.get("HOSO24_LOOKUP_KEY_SECRETS") or own.lookup_keys)
    connection = await asyncpg.connect(servers.postgres["writer"])
    try:
        rows = await connection.fetch(SHOWN)
    finally:
        await connection.close()
    return [
        {
            "code": row["code"],
            "key": keys.key(codes.parse(row["code"]), row["key_serial"]),
            "status": Status(row["status"]).slug,
        }
        for row in rows
    ]


def _write(
    directory: Path,
    servers: ServerUrls,
    own: Secrets,
    ports: Mapping[str, int],
    environ: Mapping[str, str],
    shown: list[dict[str, str]],
) -> None:
    write_private(directory / "environ", "".join(f"{name}={shlex.quote(value)}\n" for name, value in environ.items()))
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    write_up_file(
        directory,
        urls
        | {
            "token": own.token,
            "sandbox_token": own.sandbox_token,
            "samples": shown,
            "postgres": dict(servers.postgres),
            "redis": servers.redis["operator"],
        },
    )


async def _desk_link(environ: Mapping[str, str], servers: ServerUrls) -> str | None:
    """A one-time link for the sample's officer at the counter; None where there is no such officer, or an issuer."""
    settings = read(LinkSettings, {**os.environ, **environ})
    connection = await asyncpg.connect(servers.postgres["desk"])
    try:
        return await new_link(connection, settings, OFFICER)
    except NoLink:
        return None
    finally:
        await connection.close()


def _introduce(
    directory: Path,
    ports: Mapping[str, int],
    own: Secrets,
    shown: list[dict[str, str]],
    books_key: str,
    desk: str | None,
    seconds: float,
) -> None:
    lookup, intake, officers = (f"http://127.0.0.1:{ports[name]}" for name in ("lookup", "intake", "desk"))
    _say(f"\nReady after {seconds:.1f} s.\n")
    _say(f"  citizens     {lookup}/          (English: {lookup}/en)")
    _say(f"  intake       {intake}/api/v1/dossiers")
    _say(f"  desk         {desk or f'{officers}/'}")
    if desk:
        _say(f"               that link signs {OFFICER} in, once; another one: `hoso24 desk link --as {OFFICER}`")
    _say(f"  books        http://127.0.0.1:{ports['notary']}/books/checkpoint")
    _say(f"               their key: {books_key}")
    if not os.environ.get("HOSO24_SMTP_URL"):
        _say(f"  mails        none is sent: {directory / MAILS} has those that citizens would get")
    _say(f"  health       http://127.0.0.1:{ports['lookup_admin']}/health\n")
    if shown:
        first = shown[0]
        path = codes.parse(first["code"]).path
        link = f"{lookup}/tra-cuu/{path}?key={first['key']}"
        _say(f"A sample dossier:  {first['code']}\nits lookup key:    {first['key']}\nits page:          {link}\n")
        segno.make(link, micro=False).terminal(out=sys.stdout, compact=True)
        _say("\nTry it:")
        _say(f"  curl -s {lookup}/api/v1/dossiers/{path} -H 'Hoso24-Key: {first['key']}'")
    _say("Submit a dossier:")
    _say(
        f"  curl -s {intake}/api/v1/dossiers -H 'Authorization: Bearer {own.token}' \\\n"
        f"    -H 'Idempotency-Key: {secrets.token_hex(8)}' \\\n"
        """    -d '{"agency": "G99.01.01", "service": "S.004", "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)"}}'"""
    )
    _say("For developers of other systems, the sandbox, which has made-up dossiers only; begin with docs/sandbox.md:")
    _say(f"  LOOKUP={lookup}\n  INTAKE={intake}\n  TOKEN={own.sandbox_token}")
    _say(f"The API: {lookup}/docs and {intake}/docs, examples and the sandbox's keys: {lookup}/en/developers")
    _say("\nWatch one move:  make demo        Stop:  Ctrl-C or make down\n")


def _say(text: str) -> None:
    click.echo(text)
