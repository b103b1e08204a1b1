"""The command `hoso24`: runs lookup, intake, relay, notary, webhooks, notices and desk, and administers them.

Each sub-command imports what it needs when it runs, so that `hoso24 lookup` does not load code that only an
import needs.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

IRREPLACEABLE = ("HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_SEAL_KEYS", "HOSO24_BOOKS_KEY")
"""The secrets that cannot be made anew: receipts in citizens' hands, seals and signatures were made with them."""

HERE = Path(".hoso24")
"""Where `hoso24 up` keeps its data, below the directory it is called in."""
UNBROKEN = 1000
"""Characters of a line that is read by a program, or copied out of a file."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hoso24")
def cli() -> None:
    """Tells citizens the status of their dossiers, at any hour and under peak load."""


def main() -> None:
    """Run the command; a fault of settings or servers is printed as a sentence, without a traceback."""
    from ops.errors import Unavailable
    from ops.settings import SettingsError

    try:
        cli()
    except SettingsError as error:
        sys.exit("\n".join(error.faults))
    except Unavailable as error:
        sys.exit(str(error))


@contextlib.contextmanager
def _in_a_checkout() -> Iterator[None]:
    """For commands that start servers or make samples on this machine, whose code is not in the image."""
    if importlib.util.find_spec("ops.local") is None:
        raise click.ClickException(
            "This installation holds the services only. Run this command in a checkout of the repository (`make up`)."
        )
    from ops.local.cannot_start import CannotStart

    try:
        yield
    except CannotStart as error:
        sys.exit(str(error))


def screen() -> "Console":
    """Where commands print for people: as wide as the terminal, and elsewhere so wide that no line is broken."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBROKEN)


# -- the processes ---------------------------------------------------------------------------------------


@cli.command()
def lookup() -> None:
    """Run a lookup process: the public JSON API and pages."""
    from lookup import app

    _point_out_typos()
    app.main()


@cli.command()
def intake() -> None:
    """Run an intake process: the JSON API for desks, portals and business systems."""
    from intake import app

    _point_out_typos()
    app.main()


@cli.command()
def relay() -> None:
    """Run a relay: it copies the event log into Redis and the change stream. One of several leads."""
    from intake import app

    _point_out_typos()
    app.main_relay()


@cli.command()
def webhooks() -> None:
    """Deliver webhooks: send partners what changed, page by page. Any number of these may run."""
    from intake.partners import webhooks_app

    _point_out_typos()
    webhooks_app.main()


@cli.command()
def notices() -> None:
    """Tell citizens by mail, and through a gateway, what becomes of their dossiers. Any number of these may run."""
    from intake.notices import app

    _point_out_typos()
    app.main()


@cli.group(invoke_without_command=True)
@click.pass_context
def desk(context: click.Context) -> None:
    """Run a desk: the officers' pages, on a host of their own. Any number of these may run."""
    from intake.desk import app

    if context.invoked_subcommand is None:
        _point_out_typos()
        app.main()


@desk.command("link")
@click.option("--as", "subject", required=True, help="The officer's subject in the list, of issuer `local`.")
def desk_link(subject: str) -> None:
    """Print a one-time link that signs a local officer in, for thirty minutes. In a trial only: without an issuer."""
    from intake.desk import sign_in
    from intake.settings import LinkSettings
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings = read(LinkSettings, environment())

    async def made() -> str:
        connection = await connect_directly(settings.pg_url.reveal)
        try:
            return await sign_in.new_link(connection, settings, subject)
        finally:
            await connection.close()

    try:
        with _or_cannot_run():
            click.echo(_run(made()))
    except sign_in.NoLink as none:
        raise _CannotRun(str(none)) from None


@cli.group()
def officer() -> None:
    """Who may sign in at a desk. Uses the owner's URL of PostgreSQL. Exit status 2 when a list is refused."""


@officer.command("load")
@click.argument("file", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Check the file, and change nothing.")
def officer_load(file: Path, dry_run: bool) -> None:
    """Load the list of officers: CSV with issuer, subject, name, agency and roles (counter, specialist, head, auditor).

    Officers of the same issuers that the file does not name can no longer sign in, and their sessions end.
    """
    from intake.desk import officer_list
    from lookup.catalogue import load

    content = file.read_bytes()

    async def work(connection: Any) -> tuple[int, officer_list.Loaded | None]:
        await load.require(connection)
        officers = officer_list.read(content, (await load.stored(connection))[0])
        return len(officers), None if dry_run else await officer_list.load(connection, officers)

    try:
        listed, told = _with_owner(work)
    except officer_list.ListRefused as refused:
        raise _CannotRun(f"{refused}\nNothing is loaded.") from None
    if told is None:
        click.echo(f"{listed} officers are listed well; nothing is changed.")
    else:
        click.echo(f"{told.added} added, {told.changed} changed, {told.disabled} disabled; {listed} are listed.")


@officer.command("list")
def officer_list_() -> None:
    """List the officers with their agencies and roles."""
    from intake.desk import officer_list

    rows = _with_owner(officer_list.officers)
    if rows:
        screen().print(officer_list.table(rows), markup=False)
    else:
        click.echo("There is no officer yet; `hoso24 officer load FILE` lists them.")


@cli.group(invoke_without_command=True)
@click.option("--first", is_flag=True, help="Begin the books in an empty directory: sign an empty tree, and end.")
@click.pass_context
def notary(context: click.Context, first: bool) -> None:
    """Run the notary: it enters every event into the books, signs them, and serves them. One for a directory."""
    from intake.books import notary_app
    from intake.books.tree_files import Unusable
    from intake.settings import BooksSettings
    from ops.settings import read

    if context.invoked_subcommand is not None:
        return
    if not first:
        _point_out_typos()
        notary_app.main()
        return
    settings = read(BooksSettings, environment())
    try:
        with _in_words():
            notary_app.begin(settings)
    except Unusable as unusable:
        raise click.ClickException(str(unusable)) from None
    click.echo(f"The books in {settings.books} begin. Give their key to all who verify: {settings.signer().key.text}")


@notary.command("key")
def notary_key() -> None:
    """Print the public half of the key that signs the books (vkey), which verifying needs."""
    from intake.settings import BooksSettings
    from ops.settings import read

    click.echo(read(BooksSettings, environment()).signer().key.text)


# -- the database ----------------------------------------------------------------------------------------


@cli.command()
def migrate() -> None:
    """Apply missing migrations; with HOSO24_PG_ADMIN_URL, create the roles and the database first."""
    from lookup import schema
    from lookup.settings import MigrateSettings
    from ops.settings import read

    settings = read(MigrateSettings, environment())

    async def work() -> int:
        if settings.admin_url is not None:
            roles = (
                *(settings.owner_url, settings.writer_url, settings.relay_url, settings.reader_url),
                *(settings.notary_url, settings.auditor_url, settings.archivist_url, settings.webhooks_url),
                *(settings.desk_url, settings.notices_url, settings.figures_url),
            )
            await schema.create_roles(settings.admin_url.reveal(), *(url.reveal() for url in roles if url))
        return await schema.migrate(settings.owner_url.reveal(), click.echo)

    try:
        applied = _run(work())
    except schema.CannotMigrate as error:
        sys.exit(str(error))
    click.echo(f"{applied} migrations applied." if applied else "The schema is up to date.")


@cli.group()
def catalogue() -> None:
    """The catalogue of agencies, services and calendars: CSV and TOML files, described in docs/catalogue.md.

    Exit status 0 when all is well or nothing is to change, 1 when something in the files is refused, 2 when it cannot
    run, 3 when `diff` has found a difference.
    """


_FILES = click.argument("files", metavar="DIR", type=click.Path(path_type=Path), required=False)
_AS_OF = click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="The day to count for; by default today.")
_SAMPLE = click.option("--sample", "shipped", is_flag=True, help="The sample catalogue that is shipped, for trials.")
_SANDBOX = click.option("--sandbox", is_flag=True, help="The agencies of the sandbox that are shipped.")


@catalogue.command("check")
@_FILES
@_SAMPLE
@_SANDBOX
@_AS_OF
def catalogue_check(files: Path | None, shipped: bool, sandbox: bool, as_of: datetime | None) -> None:
    """Check the files by themselves, without a database: what they refer to must stand in them."""
    from lookup.catalogue import Catalogue, load

    with _or_cannot_run():
        plan = load.plan(_read_catalogue(files, shipped, sandbox), Catalogue(), {})
    _refuse_faults(plan)
    click.echo(f"Nothing is wrong in the files. {load.counted(plan.after, _day(as_of))}")


@catalogue.command("diff")
@_FILES
@_SAMPLE
@_SANDBOX
@_AS_OF
def catalogue_diff(files: Path | None, shipped: bool, sandbox: bool, as_of: datetime | None) -> None:
    """Show what a load would add (+), change (~) and leave as it is."""
    from lookup.catalogue import load

    with _or_cannot_run():
        read = _read_catalogue(files, shipped, sandbox)
        before, calendars = _with_owner(load.stored)
        plan = load.plan(read, before, calendars, sample=shipped)
    _refuse_faults(plan)
    for line in plan.lines:
        click.echo(line)
    _tell(plan, as_of, "A load would change")
    sys.exit(3 if plan.summary else 0)


@catalogue.command("load")
@_FILES
@_SAMPLE
@_SANDBOX
@_AS_OF
@click.option("--by", help="The person who loads it; by default the user who is logged in. Stored, not public.")
def catalogue_load(files: Path | None, shipped: bool, sandbox: bool, as_of: datetime | None, by: str | None) -> None:
    """Load the files in one transaction, after all of them have been checked. Nothing is ever deleted."""
    from lookup.catalogue import load

    with _or_cannot_run():
        read = _read_catalogue(files, shipped, sandbox)
        plan = _with_owner(lambda connection: load.load(connection, read, author=by or _caller(), sample=shipped))
    _refuse_faults(plan)
    _tell(plan, as_of, "Loaded")


def _read_catalogue(files: Path | None, shipped: bool, sandbox: bool) -> Any:
    from lookup.catalogue.files import SAMPLE, SANDBOX, read

    if (files is not None) + shipped + sandbox != 1:
        raise click.UsageError("Give the directory of the files, --sample, or --sandbox.")
    return read(files or (SAMPLE if shipped else SANDBOX))


def _with_owner(work: Callable[[Any], Awaitable[T]]) -> T:
    """The result of `work` with a connection of the owner, whose tables these are."""
    from lookup.settings import MigrateSettings
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings = read(MigrateSettings, environment())

    async def connected() -> T:
        connection = await connect_directly(settings.owner_url.reveal)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return _run(connected())


def _refuse_faults(plan: Any) -> None:
    for fault in plan.faults:
        click.echo(str(fault), err=True)
    if plan.faults:
        click.echo(f"{len(plan.faults)} lines are refused; nothing is loaded.", err=True)
        sys.exit(1)


def _tell(plan: Any, as_of: datetime | None, did: str) -> None:
    from lookup.catalogue import load

    for line in plan.stays:
        click.echo(f"= {line} is not in the files and stays.")
    rows = ", ".join(f"{count} of {table}" for table, count in plan.summary.items())
    click.echo(f"{did}: {rows}." if rows else "Nothing to change.")
    click.echo(load.counted(plan.after, _day(as_of)))


def _day(as_of: datetime | None) -> date:
    from lookup.clock import VIETNAM

    return as_of.date() if as_of else datetime.now(VIETNAM).date()


class _CannotRun(click.ClickException):
    """What keeps a command from doing its work at all."""

    exit_code = 2


@contextlib.contextmanager
def _or_cannot_run() -> Iterator[None]:
    """Exit status 2 for settings, servers and files that cannot be used."""
    from lookup.catalogue.files import CannotRead
    from ops.errors import Unavailable
    from ops.settings import SettingsError

    try:
        yield
    except click.UsageError:
        raise
    except (click.ClickException, SettingsError, CannotRead, Unavailable) as error:
        raise _CannotRun(str(error)) from None


@cli.group()
def cache() -> None:
    """The caches and the change stream."""


@cache.command("renew")
@click.option("--reason", required=True, help="The reason; stored in the table of epochs.")
@click.option(
    "--lost-since",
    type=click.DateTime(["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]),
    help="Vietnam time of the moment restored to, for partners that follow the log, if Redis no longer tells it.",
)
def cache_renew(reason: str, lost_since: datetime | None) -> None:
    """Begin a new epoch: caches and stream start empty. Needed only after PostgreSQL was restored."""
    from intake.books import new_epoch
    from intake.settings import RenewSettings
    from lookup.clock import VIETNAM
    from ops.settings import read

    since = lost_since and lost_since.replace(tzinfo=VIETNAM)
    begun = _run(new_epoch.begin(read(RenewSettings, environment()), reason, since))
    click.echo(f"Epoch {begun.number} has begun; relay and lookups change over within a second.")
    click.echo(str(begun))


@cache.command("lost")
@click.option("--epoch", type=int, help="The epoch of the stream; by default the present one.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write them to this file, one JSON object a line.",
)
def cache_lost(epoch: int | None, output: Path | None) -> None:
    """List the changes that were delivered and are missing from the log after PostgreSQL was restored."""
    from intake.books import lost_tail
    from intake.settings import RelaySettings
    from ops.settings import read

    tail, told = _run(lost_tail.look(read(RelaySettings, environment()), epoch))
    if output is not None:
        with _in_words():
            output.write_bytes(b"".join(lost_tail.lines(told)))
    console = screen()
    for part in lost_tail.show(tail, told):
        console.print(part)


@cli.command()
@click.argument("code")
@click.option("--admin", help="The admin port of the lookup whose memory is shown: http://host:8081.")
def why(code: str, admin: str | None) -> None:
    """Show what one lookup's memory, Redis, each standby and the primary hold for a dossier, on one screen."""
    from lookup.settings import LookupSettings
    from lookup.upkeep import why as story
    from ops.settings import read

    settings = read(LookupSettings, environment())
    admin = admin or f"http://127.0.0.1:{settings.admin_port}"
    sys.exit(0 if asyncio.run(story.tell(code, admin, settings, screen())) else 1)


@cli.command()
@click.option("--json", "for_programs", is_flag=True, help="Print the findings as JSON.")
def doctor(for_programs: bool) -> None:
    """Check settings, servers, schema, grants, clocks, stream and certificates, and say what to do next.

    Exit status 0 when all is well, 1 with warnings, 2 when something is wrong. An unreachable server is reported like
    any other problem; no check takes longer than 8 s.
    """
    from ops.doctor import findings as findings_of

    # The connections' warnings are findings here; without a handler logging would print them too.
    logging.getLogger("ops").addHandler(logging.NullHandler())
    findings = asyncio.run(examine_house(environment()))
    if for_programs:
        click.echo(findings_of.as_json(findings))
    else:
        findings_of.show(findings, screen())
    sys.exit(findings_of.exit_status(findings))


async def examine_house(environ: Mapping[str, str]) -> list[Any]:
    """The findings of all checks, with the servers that this environment names, the worst first.

    Never raises: missing settings and unreachable servers are findings.
    """
    from intake import doctor as of_intake
    from intake.settings import (
        IntakeSettings,
        MaintenanceSettings,
        NotarySettings,
        NoticesSettings,
        RelaySettings,
        WebhooksSettings,
    )
    from lookup.settings import LookupSettings, MigrateSettings
    from lookup.upkeep import doctor
    from lookup.upkeep import doctor as of_lookup
    from ops.doctor import (
        SERVER_DEADLINE,
        certificate_checks,
        client_checks,
        postgres_checks,
        redis_checks,
        settings_checks,
    )
    from ops.doctor.findings import examine, worst_first
    from ops.process_settings import DoctorSettings
    from ops.settings import secret
    from ops.stores.redis import Redis

    found = settings_checks.settings(
        environ,
        {
            "lookup": ("HOSO24_PG_READER_URL", LookupSettings),
            "intake": ("HOSO24_PG_WRITER_URL", IntakeSettings),
            "relay": ("HOSO24_PG_RELAY_URL", RelaySettings),
            "notary": ("HOSO24_BOOKS_KEY", NotarySettings),
            "webhooks": ("HOSO24_PG_WEBHOOKS_URL", WebhooksSettings),
            "notices": ("HOSO24_PG_NOTICES_URL", NoticesSettings),
            "migration": ("HOSO24_PG_OWNER_URL", MigrateSettings),
            "maintenance": ("HOSO24_PG_WRITER_URL", MaintenanceSettings),
        },
        others=[DoctorSettings],
    )
    urls = {role: secret(f"HOSO24_PG_{role.upper()}_URL", environ) for role in of_lookup.PREFERRED}
    redis_url = secret("HOSO24_REDIS_URL", environ)
    pooled = environ.get("HOSO24_PG_POOLED", "").lower() in ("1", "true")
    database = of_lookup.servers({role: url for role, url in urls.items() if url is not None}, pooled=pooled)
    redis = None if redis_url is None else Redis("redis", redis_url.reveal, size=4, deadline=SERVER_DEADLINE)
    checks = [*doctor.public_address(environ.get("HOSO24_PUBLIC_URL", "")), *doctor.site(environ)]
    for service, usual in (("lookup", LookupSettings.admin_port), ("intake", IntakeSettings.admin_port)):
        checks += client_checks.clients(service, environ.get(f"HOSO24_{service.upper()}_ADMIN_PORT") or str(usual))
    checks += of_intake.limits(environ.get("HOSO24_INTAKE_ADMIN_PORT") or str(IntakeSettings.admin_port))
    checks += of_intake.books(environ.get("HOSO24_NOTARY_ADMIN_PORT") or str(NotarySettings.admin_port))
    if database.all:
        checks += postgres_checks.postgres(database, writing=of_intake.WRITER)
        checks += of_lookup.checks(database, redis)
        checks += of_intake.checks(database, redis)
    if redis_url and redis:
        checks += redis_checks.redis(redis, policy=of_lookup.POLICY, oldest=of_lookup.OLDEST_REDIS)
        checks += redis_checks.sentinels(redis_url.reveal())
        checks += certificate_checks.redis_certificates(redis_url.reveal())
    try:
        found += settings_checks.secret_files(environ)
        found += settings_checks.second_copy(environ, IRREPLACEABLE, _now().date())
        return worst_first([*found, *await examine(checks)])
    finally:
        await database.close()
        if redis:
            await redis.close()


@cli.command()
def metrics() -> None:
    """Print the reference of all metrics and their labels, as in docs/metrics.md."""
    import intake.metrics
    import lookup.metrics
    import ops.observe.metrics
    from ops.observe.metrics_page import page

    click.echo(
        page(
            {
                "Every process": ops.observe.metrics,
                "Lookup": lookup.metrics,
                "Intake, relay, notary, webhooks and notices": intake.metrics,
            }
        ),
        nl=False,
    )


@cli.group()
def audit() -> None:
    """The books: whether log, rows and books are as they were written, and proofs of it.

    Exit status 0 when all is well, 1 when something was altered or does not hold, 2 when it cannot be told.
    """


_KEY = click.option("--key", metavar="VKEY", help="The public key of the books, as `hoso24 notary key` prints it.")
_BOOKS = click.option("--books", metavar="DIR|URL", help="The books: the notary's directory, or its URL with /books.")


@audit.command("verify")
@_BOOKS
@_KEY
@click.option("--checkpoint", "kept", multiple=True, type=_FILE, help="A checkpoint that was kept; may be repeated.")
@click.option("--since", type=_FILE, help="Compare only what came after this checkpoint.")
def audit_verify(books: str | None, key: str | None, kept: tuple[Path, ...], since: Path | None) -> None:
    """Compare the log with the books, the books with kept checkpoints, and each dossier's row with the log.

    Needs the auditor's URL (HOSO24_PG_AUDITOR_URL; a standby will do) and no secret. Without --books only rows are
    compared with the log.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from intake.books.published import books_at
    from intake.books.verify import Verified, verify
    from intake.books.walk import Kept

    notes = [Kept(str(path), path.read_bytes()) for path in kept]
    begin = Kept(str(since), since.read_bytes()) if since else None
    trusted = _verifier_key(key)

    async def work(connection: Any) -> Verified:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=max(done, of))

        return await verify(
            connection,
            click.echo,
            books=books_at(books) if books else None,
            key=trusted,
            kept=notes,
            since=begin,
            progress=advance,
        )

    bar = Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),  # findings above the bar; elsewhere they go where they are sent
        disable=not sys.stderr.isatty(),
    )
    with _of_the_books(), bar:
        result = _with_auditor(work)
    for line in result.turns():
        click.echo(line)
    click.echo(result.sentence())
    sys.exit(1 if result.findings else 0)


@audit.command("prove")
@_BOOKS
@_KEY
@click.argument("code")
@click.argument("version", type=click.IntRange(1))
def audit_prove(books: str | None, key: str | None, code: str, version: int) -> None:
    """Print a proof (tlog-proof) that an event is in the books, which anyone checks with the public key."""
    from intake.books.proofs import prove
    from intake.books.published import books_at

    trusted = _verifier_key(key)
    if books is None or trusted is None:
        raise click.UsageError("Give --books and --key.")
    with _of_the_books():
        click.echo(_with_auditor(lambda each: prove(each, books_at(books), trusted, code, version)), nl=False)


@audit.command("check")
@_KEY
@click.argument("proof", type=_FILE)
def audit_check(key: str | None, proof: Path) -> None:
    """Check a proof and print the event that it proves. Needs neither database nor network."""
    from intake.books.proofs import check

    trusted = _verifier_key(key)
    if trusted is None:
        raise click.UsageError("Give --key.")
    with _of_the_books():
        click.echo(check(proof.read_bytes(), trusted).words())


@audit.command("watch")
@_KEY
@click.option("--state", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Keeps the checkpoint.")
@click.argument("books", metavar="URL")
def audit_watch(key: str | None, state: Path, books: str) -> None:
    """Keep the newest checkpoint, if the books have only grown since the one that was kept. To be run again and again.

    Needs no database. Otherwise both checkpoints are printed, and the one that was kept stays.
    """
    from intake.books.proofs import watch
    from intake.books.published import books_at

    trusted = _verifier_key(key)
    if trusted is None:
        raise click.UsageError("Give --key.")
    with _of_the_books(), _in_words():
        click.echo(watch(books_at(books), trusted, state))


@audit.command("reads")
@click.option("--from", "start", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The first day (UTC+7).")
@click.option("--to", "end", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The last day (UTC+7).")
@click.option("--code", help="Of this dossier only.")
def audit_reads(start: datetime, end: datetime, code: str | None) -> None:
    """List who was shown personal data: time, reader, client, code and what was shown, separated by tabs."""
    from intake.books.reads import reads_between
    from lookup.clock import VIETNAM

    async def work(connection: Any) -> None:
        begin, stop = start.replace(tzinfo=VIETNAM), end.replace(tzinfo=VIETNAM) + timedelta(days=1)
        async for row in reads_between(connection, begin, stop, code):
            at = row["at"].astimezone(VIETNAM).isoformat(timespec="seconds")
            click.echo("\t".join([at, row["reader"], row["client"], row["code"], row["screen"]]))

    with _of_the_books():
        _with_auditor(work)


def _verifier_key(text: str | None) -> Any:
    from intake.books.checkpoint import VerifierKey

    try:
        return None if text is None else VerifierKey.from_text(text)
    except ValueError as wrong:
        raise click.UsageError(f"--key: {wrong}.") from None


def _with_auditor(work: Callable[[Any], Awaitable[T]]) -> T:
    """The result of `work` with a connection of the auditor."""
    from lookup.settings import AuditorUrl
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings = read(AuditorUrl, environment())

    async def connected() -> T:
        connection = await connect_directly(settings.pg_url.reveal)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return _run(connected())


@contextlib.contextmanager
def _of_the_books() -> Iterator[None]:
    """Exit status 1 for what does not hold, 2 for what cannot be told; each with a sentence."""
    from intake.books.proofs import NotGrown, NotProven
    from intake.books.published import CannotRead
    from intake.books.walk import CannotVerify

    try:
        with _or_cannot_run():
            yield
    except (NotGrown, NotProven) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (CannotRead, CannotVerify) as error:
        raise _CannotRun(str(error)) from None


@cli.group()
def client() -> None:
    """The clients of the intake: desks, portals, business systems. Uses the owner's URL of PostgreSQL.

    Every change reaches the running intakes within five seconds. Exit status 2 when a change is refused.
    """


_AGENCY = "The scope: this agency and all below it."
_ACTIONS = "The permitted actions: receive, move, bind, read, correct, sync, follow."
_EXPIRES = click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), help="The token's last day, in Vietnam; by default it has none."
)


@client.command("add")
@click.argument("client_id", metavar="ID")
@click.option("--name", required=True, help="A description, for people.")
@click.option("--agency", required=True, help=_AGENCY)
@click.option("--actions", default="receive,move,bind,read", show_default=True, help=_ACTIONS)
@click.option("--sandbox", is_flag=True, help="Made-up dossiers only: its agency is one of the sandbox.")
@_EXPIRES
def client_add(client_id: str, name: str, agency: str, actions: str, sandbox: bool, expires: datetime | None) -> None:
    """Add a client. Prints its token, which is shown only once."""
    from intake import clients
    from lookup.catalogue import load

    async def work(connection: Any) -> str:
        given, end = clients.read_actions(actions), clients.end_of(expires and expires.date(), _now())
        await load.require(connection)
        return await clients.add_client(connection, client_id, name, agency, given, sandbox=sandbox, expires_at=end)

    click.echo(_about_clients(work))


@client.command("list")
def client_list() -> None:
    """List the clients and their tokens, without the revoked ones."""
    _show_clients(None)


@client.command("show")
@click.argument("client_id", metavar="ID")
def client_show(client_id: str) -> None:
    """Show a client with all its tokens."""
    _show_clients(client_id)


def _show_clients(client_id: str | None) -> None:
    from intake import clients

    rows = _about_clients(lambda connection: clients.listed(connection, client_id))
    if rows:
        screen().print(clients.table(rows), markup=False)
    else:
        click.echo("There is no client yet; `hoso24 client add` makes one.")


@client.command("token")
@click.argument("client_id", metavar="ID")
@_EXPIRES
def client_token(client_id: str, expires: datetime | None) -> None:
    """Make a client a second token. The first goes on until it is revoked. Prints it; it is shown only once."""
    from intake import clients

    async def work(connection: Any) -> str:
        return await clients.add_token(
            connection, client_id, expires_at=clients.end_of(expires and expires.date(), _now())
        )

    click.echo(_about_clients(work))


@client.command("revoke")
@click.argument("client_id", metavar="ID")
@click.argument("number", type=int)
def client_revoke(client_id: str, number: int) -> None:
    """Revoke the token of this NUMBER for good; `client show` tells the numbers."""
    from intake import clients

    _about_clients(lambda connection: clients.revoke(connection, client_id, number))
    click.echo(f"Token {number} of {client_id} is revoked; the intakes refuse it within five seconds.")


@client.command("scope")
@click.argument("client_id", metavar="ID")
@click.option("--agency", help=_AGENCY)
@click.option("--actions", help=_ACTIONS)
@click.option("--name", help="A description, for people.")
def client_scope(client_id: str, agency: str | None, actions: str | None, name: str | None) -> None:
    """Change what a client may do and where, or its name. Its tokens stay."""
    from intake import clients

    async def work(connection: Any) -> tuple[str, tuple[str, ...]]:
        given = None if actions is None else clients.read_actions(actions)
        return await clients.set_scope(connection, client_id, agency=agency, actions=given, name=name)

    scope, may = _about_clients(work)
    click.echo(f"{client_id} may {', '.join(may)} at {scope} and all below it.")


@client.command("disable")
@click.argument("client_id", metavar="ID")
def client_disable(client_id: str) -> None:
    """Disable a client with all its tokens, until it is enabled again."""
    from intake import clients

    _about_clients(lambda connection: clients.set_disabled(connection, client_id, True))
    click.echo(f"{client_id} is disabled; the intakes refuse its tokens within five seconds.")


@client.command("enable")
@click.argument("client_id", metavar="ID")
def client_enable(client_id: str) -> None:
    """Enable a disabled client again, with the tokens it has."""
    from intake import clients

    _about_clients(lambda connection: clients.set_disabled(connection, client_id, False))
    click.echo(f"{client_id} is enabled.")


def _about_clients(work: Callable[[Any], Awaitable[T]]) -> T:
    """The result of `work` with the owner's connection; a refusal is a sentence and exit status 2."""
    from intake.clients import ClientRefused

    try:
        return _with_owner(work)
    except ClientRefused as refused:
        raise _CannotRun(str(refused)) from None


def _now() -> datetime:
    from lookup.clock import VIETNAM

    return datetime.now(VIETNAM)


# -- dossiers, by an operator ----------------------------------------------------------------------------


@cli.group()
def dossier() -> None:
    """One dossier: its lookup key, its owner, its removal. Recorded under the name of the person who calls. Exit status
    2 when refused.
    """


_BY = click.option("--by", help="The person who does it; by default the user who is logged in. Stored, not public.")


@dossier.command("key")
@click.argument("code")
@click.option("--reissue", is_flag=True, help="Make a new key; the ones before open the dossier no longer.")
@click.option("--reason", help="Why a new one is made. Stored, not public.")
@_BY
def dossier_key(code: str, reissue: bool, reason: str | None, by: str | None) -> None:
    """Print the lookup key of a dossier, for an applicant who has none. The read is logged."""
    from intake import operator
    from intake.books.seal import SealKeys
    from intake.settings import WriterSettings
    from lookup import code as codes
    from lookup.lookup_key import KeyRing
    from ops.settings import read

    settings = read(WriterSettings, environment())
    keys, seals = (
        KeyRing.from_text(settings.lookup_key_secrets.reveal()),
        SealKeys.from_text(settings.seal_keys.reveal()),
    )

    async def work(writer: Any) -> str:
        parsed = codes.parse(code)
        if reissue:
            return await operator.new_lookup_key(writer, keys, seals, parsed, by=by or _caller(), reason=reason)
        return await operator.lookup_key(writer, keys, parsed, by=by or _caller())

    click.echo(_about_a_dossier(work, settings.pg_url))


@dossier.command("owner")
@click.argument("code")
@click.argument("client_id", metavar="CLIENT|none")
@click.option("--reason", help="Why it is changed. Stored, not public.")
@_BY
def dossier_owner(code: str, client_id: str, reason: str | None, by: str | None) -> None:
    """Say whose synchronisation sets the dossier's status: one client's, or with `none` that of any in scope.

    What other clients send of it is kept in its timeline and changes nothing.
    """
    from intake import operator
    from intake.books.seal import SealKeys
    from intake.clients import ClientRefused
    from intake.settings import WriterSettings
    from lookup import code as codes
    from ops.settings import read

    settings = read(WriterSettings, environment())
    seals = SealKeys.from_text(settings.seal_keys.reveal())
    owner = None if client_id == "none" else client_id

    async def work(writer: Any) -> int:
        parsed = codes.parse(code)
        return await operator.change_owner(writer, seals, parsed, owner, by=by or _caller(), reason=reason)

    try:
        version = _about_a_dossier(work, settings.pg_url)
    except ClientRefused as refused:
        raise _CannotRun(str(refused)) from None
    whose = f"{owner} sets its status" if owner else "any client of its scope sets its status"
    click.echo(f"{code} is at version {version}: {whose} by synchronisation.")


@dossier.command("remove")
@click.argument("code")
@click.option("--reason", required=True, help="Why it is removed. Erased with the rest.")
@_BY
def dossier_remove(code: str, reason: str, by: str | None) -> None:
    """Remove a dossier for good: its row is emptied, and the events' content erased. Nothing brings it back.

    The log keeps that it existed, and stays verifiable. After an interruption the same command goes on.
    """
    from intake import operator
    from intake.books.seal import SealKeys
    from intake.settings import WriterSettings
    from lookup import code as codes
    from lookup.settings import ArchivistUrl
    from ops.settings import read

    settings, other = read(WriterSettings, environment()), read(ArchivistUrl, environment())
    seals = SealKeys.from_text(settings.seal_keys.reveal())

    async def work(writer: Any, archivist: Any) -> tuple[bool, int]:
        return await operator.remove(writer, archivist, seals, codes.parse(code), by=by or _caller(), reason=reason)

    was_there, erased = _about_a_dossier(work, settings.pg_url, other.pg_url)
    found = f"{code} is removed" if was_there else f"{code} was removed already"
    click.echo(f"{found}; {erased} events erased. Lookups find none once this is delivered, within a second.")


def _about_a_dossier(work: Callable[..., Awaitable[T]], *urls: Any, **options: Any) -> T:
    """The result of `work` with a connection for each URL; a refusal is a sentence and exit status 2.

    `options`: of the connections, as server_settings.
    """
    from ops.errors import Refusal, Unavailable
    from ops.stores.postgres import connect_directly

    async def connected() -> T:
        async with contextlib.AsyncExitStack() as stack:
            connections = []
            for url in urls:
                connections.append(await connect_directly(url.reveal, **options))
                stack.push_async_callback(connections[-1].close)
            return await work(*connections)

    try:
        return _run(connected())
    except Unavailable:
        raise
    except Refusal as refused:
        raise _CannotRun(refused.detail or refused.title) from None


@cli.group()
def person() -> None:
    """What is known of one person, for that person."""


@person.command("export")
@click.option("--id", "number", required=True, help="The person's number, as applications gave it.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A new folder for it.")
@_BY
def person_export(number: str, out: Path | None, by: str | None) -> None:
    """Write everything that is known of a person into a folder: person.json, and person.txt to be read and printed.

    Without --out the JSON goes to standard output.

    Dossiers, events, papers, consents, notices, and who read them; noted in the log of reads first. Needs the URLs of
    writer, archivist and auditor: no role may read all of it. Reads every dossier once: minutes where there are many.
    """
    from intake.retention import LONG_READS, persons
    from lookup.settings import ArchivistUrl, AuditorUrl, WriterUrl
    from ops.settings import read

    where = environment()
    urls = [read(WriterUrl, where).pg_url, read(ArchivistUrl, where).pg_url, read(AuditorUrl, where).pg_url]

    async def work(writer: Any, archivist: Any, auditor: Any) -> list[dict[str, Any]]:
        return await persons.export(writer, archivist, auditor, number, by=by or _caller())

    try:
        if out is not None:
            out.mkdir(mode=0o700)
    except OSError as error:
        raise _CannotRun(f"{out} cannot be made ({error.strerror}); name a folder that is not there yet.") from None
    try:
        found = _about_a_dossier(work, *urls, server_settings=LONG_READS)
    except ValueError as wrong:
        raise _CannotRun(f"--id: {wrong}.") from None
    if out is None:
        click.echo(persons.as_json(found), nl=False)
        return
    (out / "person.json").write_bytes(persons.as_json(found))
    (out / "person.txt").write_text(persons.as_text(found), "utf-8")
    click.echo(f"{len(found):,} dossiers are told in {out}. It is personal data: hand it over, then delete it.")


@cli.group()
def hold() -> None:
    """Holds: a legal one keeps a dossier from being removed, a restricted one from being told of. Archivist's URL."""


_KIND = click.option("--kind", type=click.Choice(["legal", "restricted"]), required=True)


@hold.command("set")
@click.argument("code")
@_KIND
@click.option("--reason", required=True, help="Why: whose request, which proceeding.")
@_BY
def hold_set(code: str, kind: Any, reason: str, by: str | None) -> None:
    """Hold a dossier from now on."""
    from intake.retention import holds
    from lookup import code as codes
    from lookup.settings import ArchivistUrl
    from ops.settings import read

    async def work(archivist: Any) -> None:
        await holds.hold(archivist, codes.parse(code).text, kind, reason=reason, by=by or _caller())

    _about_a_dossier(work, read(ArchivistUrl, environment()).pg_url)
    click.echo(f"{code} is held ({kind}) until `hoso24 hold lift {code} --kind {kind}`.")


@hold.command("lift")
@click.argument("code")
@_KIND
def hold_lift(code: str, kind: Any) -> None:
    """End a hold."""
    from intake.retention import holds
    from lookup import code as codes
    from lookup.settings import ArchivistUrl
    from ops.settings import read

    async def work(archivist: Any) -> bool:
        return await holds.lift(archivist, codes.parse(code).text, kind)

    if not _about_a_dossier(work, read(ArchivistUrl, environment()).pg_url):
        raise _CannotRun(f"{code} is not held ({kind}).")
    click.echo(f"{code} is no longer held ({kind}).")


@hold.command("list")
def hold_list() -> None:
    """List the holds in force, a line each: code, kind, since, by whom, why."""
    from intake.retention import holds
    from lookup.settings import ArchivistUrl
    from ops.settings import read

    for each in _about_a_dossier(holds.holds, read(ArchivistUrl, environment()).pg_url):
        click.echo("\t".join([each["code"], each["kind"], f"{each['at']:%Y-%m-%d}", each["by"], each["reason"]]))


@cli.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be removed, and change nothing.")
@click.option("--as-of", "day", type=click.DateTime(["%Y-%m-%d"]), help="As if it were this day; only with --dry-run.")
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, help="Dossiers removed, at most.")
@_BY
def retention(dry_run: bool, day: datetime | None, limit: int, by: str | None) -> None:
    """Remove dossiers that were kept long enough, by the retention classes of the catalogue (5y, 20y, 70y …).

    Tells first, class by class, what is kept, expired and held. Each dossier is removed by a sealed event and erased;
    the log stays verifiable. Interrupted, the next run goes on. Needs the writer's and the archivist's URLs.
    """
    from intake.books.seal import SealKeys
    from intake.retention import LONG_READS, expiry
    from intake.settings import WriterSettings
    from lookup.clock import VIETNAM
    from lookup.settings import ArchivistUrl
    from ops.settings import read

    if day is not None and not dry_run:
        raise click.UsageError("--as-of is only for --dry-run: what is removed has expired today.")
    at = day.replace(tzinfo=VIETNAM) if day else datetime.now(VIETNAM)
    archivist_url = read(ArchivistUrl, environment()).pg_url

    async def told(archivist: Any) -> Any:
        return await expiry.report(archivist, at)

    classes = _about_a_dossier(told, archivist_url, server_settings=LONG_READS)
    click.echo("class\tservice\tfinished\toldest\texpired\theld")
    for each in classes:
        unknown = "" if each.understood else "\tkept: the class says no number of years"
        what = (
            each.retention_class or "-",
            each.service,
            each.kept,
            f"{each.oldest:%Y-%m-%d}",
            each.expired,
            each.held,
        )
        click.echo("\t".join(map(str, what)) + unknown)
    expired = sum(each.expired for each in classes)
    if dry_run:
        click.echo(f"{expired:,} dossiers would be removed.", err=True)
        return
    settings = read(WriterSettings, environment())
    seals = SealKeys.from_text(settings.seal_keys.reveal())

    async def work(writer: Any, archivist: Any) -> int:
        removed = 0
        async for _ in expiry.run(writer, archivist, seals, at, by=by or _caller(), limit=limit):
            removed += 1
            if removed % 100 == 0:
                click.echo(f"{removed:,} of {min(limit, expired):,}", err=True)
        return removed

    removed = _about_a_dossier(work, settings.pg_url, archivist_url, server_settings=LONG_READS)
    click.echo(f"{removed:,} dossiers removed and erased.", err=True)


@cli.command()
@click.option("--on", "day", type=click.DateTime(["%Y-%m-%d"]), help="As the day begins; by default now.")
@click.option("--agency", help="Of this agency and all below it; by default of all but the sandbox.")
def overdue(day: datetime | None, agency: str | None) -> None:
    """List what is late, due on the day or the next working day, not decided on in time, and to be apologised for.

    A line each, its fields separated by tabs: what, due date, code, agency, and the task. Needs the writer's URL and
    changes nothing. Exit status 3 if anything is late.
    """
    from intake.overdue import WHATS, Owed, owed
    from lookup.catalogue import CatalogueCopy, load
    from lookup.clock import VIETNAM
    from lookup.settings import WriterUrl
    from ops.settings import read

    at = day.replace(tzinfo=VIETNAM) if day else _now()

    async def work(writer: Any) -> Sequence[Owed]:
        await load.require(writer)
        catalogue = await CatalogueCopy(writer).get()
        if agency is not None and agency not in catalogue.agencies:
            raise _CannotRun(f"There is no agency {agency}.")
        return await owed(writer, catalogue, at, agency)

    found = _about_a_dossier(work, read(WriterUrl, environment()).pg_url)
    for each in found:
        task = f"task {each.number}, {each.work or each.kind}" if each.number else "put off with an apology"
        due = each.due_at.astimezone(VIETNAM).isoformat(timespec="minutes")
        click.echo("\t".join([each.what, due, each.code, each.agency, task]))
    counted = ", ".join(f"{len([each for each in found if each.what == what])} {what}" for what in WHATS)
    click.echo(f"At {at:%Y-%m-%d %H:%M}: {counted}.", err=True)
    sys.exit(3 if any(each.late for each in found) else 0)


@cli.command()
def tidy() -> None:
    """Delete what has expired: answers kept for repeated requests, and dead letters, after thirty days. To run hourly.

    Notices go ninety days after their end, desk sessions when they have ended. Erases what is told by the events of
    dossiers that the sandbox removed, as well.

    Safe beside everything else, and after an interruption; deletes at most a thousand rows at a time.
    """
    from intake import tidy as tidying
    from lookup.settings import ArchivistUrl
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings, answers, letters, erased = read(ArchivistUrl, environment()), 0, 0, 0
    notices, sessions = 0, 0

    async def work() -> None:
        nonlocal answers, letters, erased, notices, sessions
        connection = await connect_directly(settings.pg_url.reveal, server_settings=tidying.LIKE_THE_TRIGGER)
        try:
            async for count in tidying.delete_answers(connection):
                answers += count
            async for count in tidying.delete_letters(connection):
                letters += count
            async for count in tidying.delete_notices(connection):
                notices += count
            async for count in tidying.delete_sessions(connection):
                sessions += count
            async for count in tidying.erase_the_sandboxs(connection):
                erased += count
        finally:
            await connection.close()

    try:
        _run(work())
    finally:
        click.echo(
            f"Deleted {answers:,} answers and {letters:,} dead letters that were kept for more than "
            f"{tidying.KEPT_DAYS} days."
        )
        if notices or sessions:
            click.echo(f"Deleted {notices:,} ended notices and {sessions:,} ended desk sessions.")
        if erased:
            click.echo(f"Erased {erased:,} events of dossiers that the sandbox removed.")


@cli.group()
def paper() -> None:
    """Papers: the key that stamps them, and whether one is of ours."""


@paper.command("key")
@click.argument("key_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--public",
    "public_keys",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of public keys, which every lookup reads; the new one is added to it.",
)
@click.option("--issuer", required=True, help="Whose key it is, as people who verify a paper are told.")
def paper_key(key_file: Path, public_keys: Path, issuer: str) -> None:
    """Make a key that stamps papers, readable by its owner only. Publish its public half a week before it is used."""
    from datetime import date

    from intake.papers.keys import CannotStamp, make

    try:
        made = make(key_file, public_keys, issuer=issuer, since=date.today())
    except CannotStamp as wrong:
        raise _CannotRun(str(wrong)) from None
    click.echo(f"Key {made} is in {key_file}, its public half in {public_keys}. Keep a second copy of the key.")


@paper.command("verify")
@click.argument("paper")
@click.option(
    "--keys",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file of public keys; without it that of HOSO24_PAPER_PUBLIC_KEYS.",
)
def paper_verify(paper: str, keys: Path | None) -> None:
    """Tell whether PAPER, a PDF or the text or link of a stamp, is of ours.

    Exit status 1 if it is not, 3 if its pages may show something else than what was stamped.
    """
    from intake.papers.verifying import check_pdf, check_text
    from lookup.settings import PaperPublicKeysSettings
    from lookup.web.paper_pages import read_keys
    from ops.settings import SettingsError, read

    try:
        public = read_keys(keys or read(PaperPublicKeysSettings, environment()).paper_public_keys)
    except SettingsError as wrong:
        raise _CannotRun(str(wrong)) from None
    if not public.keys:
        raise _CannotRun("There are no public keys to verify with: name their file by --keys.")
    path = Path(paper)
    found = check_pdf(path.read_bytes(), public) if _is_file(path) else check_text(paper, public)
    for line in found.lines():
        click.echo(line)
    sys.exit(1 if not found.good else 3 if found.anew is False else 0)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a stamp's text is longer than a name may be
        return False


@cli.command()
@click.option("--rebuild", is_flag=True, help="Count from the beginning of the log, whatever was counted before.")
@click.option("--stocks", is_flag=True, help="Count what is in hand too, even if it was counted today.")
def figures(rebuild: bool, stocks: bool) -> None:
    """Bring the public figures up to date. To run hourly; the first run of a day counts what is in hand too.

    Safe beside everything else and after an interruption; two at a time count once.
    """
    from intake.figures.counting import count
    from lookup.settings import FiguresUrl
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings = read(FiguresUrl, environment())

    async def work() -> None:
        connection = await connect_directly(settings.pg_url.reveal)
        try:
            done = await count(connection, rebuild=rebuild, stocks=stocks)
        finally:
            await connection.close()
        in_hand = f", and what is in hand on {done.today}" if done.stocks else ""
        click.echo(f"Changed {done.changed:,} figures{in_hand}.")

    _run(work())


@cli.group()
def deadletters() -> None:
    """The lines that partners sent and that were refused. They name persons: who is shown one is logged."""


@deadletters.command("list")
@click.option("--client", "client_id", metavar="ID", help="Of this client only.")
def deadletters_list(client_id: str | None) -> None:
    """List the open ones without the lines, oldest first."""
    from intake.partners import letters

    rows = _about_letters(lambda writer: letters.listed(writer, client_id))
    if rows:
        screen().print(letters.table(rows), markup=False)
    else:
        click.echo("No refused line waits.")


@deadletters.command("show")
@click.argument("number", type=click.IntRange(1))
@_BY
def deadletters_show(number: int, by: str | None) -> None:
    """Print a line and why it was refused. The read is logged."""
    from intake.partners import letters

    row = _about_letters(lambda writer: letters.show(writer, number, by=by or _caller()))
    click.echo(f"{row['client']}, id {row['source_event_id']}: {row['error']}, {row['detail']}", err=True)
    click.echo(row["line"])


@deadletters.command("replay")
@click.argument("number", type=click.IntRange(1))
@_BY
def deadletters_replay(number: int, by: str | None) -> None:
    """Apply a line again, in its client's name and scope of today. Exit status 1 if it is refused again.

    For a line that was right, and lacked an agency or a service here. Who did so is logged. Safe to repeat.
    """
    from intake import clients
    from intake.books.seal import SealKeys
    from intake.budgets import Budgets
    from intake.partners import letters
    from intake.partners.sync import Sync
    from intake.settings import WriterSettings
    from lookup.catalogue import CatalogueCopy
    from lookup.lookup_key import KeyRing
    from ops.settings import read
    from ops.stores.postgres import Postgres

    settings = read(WriterSettings, environment())
    keys = KeyRing.from_text(settings.lookup_key_secrets.reveal())
    seals = SealKeys.from_text(settings.seal_keys.reveal())

    async def work(writer: Any) -> Any:
        postgres = Postgres("postgres", settings.pg_url.reveal, size=2, deadline=20.0)
        uncounted = Budgets(write=1, read=1, sync=1)  # it is one line
        sync = Sync(postgres, CatalogueCopy(postgres), uncounted, keys, seals, connections=2, deadline=20.0)
        try:
            return await letters.replay_as(
                writer, number, lambda name: clients.find(writer, name), sync.apply, by=by or _caller()
            )
        finally:
            await sync.close()
            await postgres.close()

    try:
        told = _about_a_dossier(work, settings.pg_url)
    except clients.ClientRefused as refused:
        raise _CannotRun(str(refused)) from None
    if not told.closed:
        raise click.ClickException(f"Dead letter {number} is {told.result} again: {told.code}. {told.detail}")
    click.echo(f"Dead letter {number}: {told.result}; {told.dossier} is at version {told.version}.")


@deadletters.command("drop")
@click.argument("number", type=click.IntRange(1))
@_BY
def deadletters_drop(number: int, by: str | None) -> None:
    """Give a line up: it is deleted. Who did so is logged. Sent and refused again, it is a new letter."""
    from intake.partners import letters

    _about_letters(lambda writer: letters.drop(writer, number, by=by or _caller()))
    click.echo(f"Dead letter {number} is dropped.")


def _about_letters(work: Callable[[Any], Awaitable[T]]) -> T:
    """The result of `work` with a connection of the writer; a refusal is a sentence and exit status 2."""
    from lookup.settings import WriterUrl
    from ops.settings import read

    return _about_a_dossier(work, read(WriterUrl, environment()).pg_url)


@cli.group()
def maintenance() -> None:
    """Notices of planned maintenance, shown on the page about the service and on the lookup form."""


_TIME = click.DateTime(["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"])


@maintenance.command("announce")
@click.option("--start", required=True, type=_TIME, help="The start, in Vietnamese time (UTC+7).")
@click.option("--end", required=True, type=_TIME, help="The time by which everything works again (UTC+7).")
@click.option(
    "--affects",
    required=True,
    multiple=True,
    type=click.Choice(["lookup", "intake", "updates"]),
    help="A part that is unavailable meanwhile; may be repeated.",
)
@click.option("--vi", "text_vi", required=True, help="The text for citizens, in Vietnamese.")
@click.option("--en", "text_en", required=True, help="The same text in English.")
@click.option("--urgent", metavar="REASON", help="Why it is announced at short notice. Stored, not public.")
@click.option("--by", help="The person who announces it; by default the user who is logged in. Stored, not public.")
def maintenance_announce(
    start: datetime,
    end: datetime,
    affects: tuple[str, ...],
    text_vi: str,
    text_en: str,
    urgent: str | None,
    by: str | None,
) -> None:
    """Announce maintenance, at least seven working days ahead."""
    from intake.maintenance import Plan, announce
    from lookup.clock import VIETNAM
    from lookup.maintenance import Part

    parts = [part for part in Part if part.value in affects]
    starts_at, ends_at = (moment.replace(tzinfo=VIETNAM) for moment in (start, end))
    plan = Plan(starts_at, ends_at, parts, text_vi.strip(), text_en.strip(), urgent and urgent.strip())

    async def work(connection: Any, notice_days: int) -> int:
        return await announce(connection, plan, by=by or _caller(), notice_days=notice_days)

    click.echo(f"Announced as notice {_about_maintenance(work)}; the pages show it within seconds.")


@maintenance.command("list")
@click.option("--all", "everything", is_flag=True, help="Include notices that are over or withdrawn.")
def maintenance_list(everything: bool) -> None:
    """List the notices."""
    from intake.maintenance import announced, table

    async def work(connection: Any, _: int) -> Any:
        return await announced(connection, everything=everything)

    rows = _about_maintenance(work)
    if rows:
        screen().print(table(rows), markup=False)
    else:
        click.echo("No maintenance is announced.")


@maintenance.command("withdraw")
@click.argument("number", type=int)
@click.option("--reason", required=True, help="The reason. Stored, not public.")
@click.option("--by", help="The person who withdraws it; by default the user who is logged in. Stored, not public.")
def maintenance_withdraw(number: int, reason: str, by: str | None) -> None:
    """Withdraw a notice: it disappears from the pages within seconds, and stays stored."""
    from intake.maintenance import withdraw

    async def work(connection: Any, _: int) -> None:
        await withdraw(connection, number, by=by or _caller(), reason=reason)

    _about_maintenance(work)
    click.echo(f"Notice {number} is withdrawn.")


def _about_maintenance(work: Callable[[Any, int], Awaitable[Any]]) -> Any:
    """Call `work` with a connection of the writer and the days of notice; a refusal becomes a ClickException."""
    from intake.maintenance import NoticeRefused
    from intake.settings import MaintenanceSettings
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    settings = read(MaintenanceSettings, environment())

    async def connected() -> Any:
        connection = await connect_directly(settings.pg_url.reveal)
        try:
            return await work(connection, settings.notice_days)
        finally:
            await connection.close()

    try:
        return _run(connected())
    except NoticeRefused as refused:
        raise click.ClickException(str(refused)) from None


def _caller() -> str:
    """The user who is logged in; the user of a container may have no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


# -- bulk ------------------------------------------------------------------------------------------------


@cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_file(file: Path) -> None:
    """Import a file of dossiers, one a line, in the plain or the national form.

    Refused lines go to FILE.rejected.ndjson, lookup keys to FILE.keys.ndjson. After an interruption the same command
    goes on after the last commit; after the end it changes nothing. Further steps of a stored dossier are appended.
    The exit status is 1 if a line was refused, 2 if the import did not come to the end of the file.
    """
    from intake.bulk import command

    with _in_words():
        tally = command.run_import(file, environment())
    sys.exit(1 if tally.rejected else 0)


@cli.command()
@click.option("--n", "count", type=click.IntRange(0), default=1000, show_default=True, help="Number of dossiers.")
@click.option("--seed", default=24, show_default=True, help="The same seed writes the same file.")
@click.option(
    "--days", type=click.IntRange(1), default=365, show_default=True, help="Number of days in which they are submitted."
)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The last of these days; by default yesterday.")
@click.option(
    "--broken",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of lines that are broken in various ways.",
)
@click.option(
    "--first", type=click.IntRange(1), default=1, show_default=True, help="First number of every sequence of codes."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; by default standard output.",
)
def sample(
    count: int, seed: int, days: int, until: datetime | None, broken: float, first: int, output: Path | None
) -> None:
    """Write made-up dossiers in the national form, with fictitious people and agencies."""
    last = until.date() if until else date.today() - timedelta(days=1)
    with _in_words(), _in_a_checkout():
        from intake.local import sample as samples

        samples.run_sample(output, count, seed=seed, until=last, days=days, broken=broken, first=first)


# -- on this machine -------------------------------------------------------------------------------------


@cli.command()
@click.option("--samples/--no-samples", default=True, help="Import sample dossiers into an empty database.")
@click.option("--servers-only", is_flag=True, help="Run PostgreSQL and Valkey only, without lookup, intake and relay.")
@click.option(
    "--archive", is_flag=True, help="Keep PostgreSQL's log, to restore it to any moment; grows without limit."
)
@click.option("--fresh", is_flag=True, help="Set the data of earlier runs aside, and begin with none.")
def up(samples: bool, servers_only: bool, archive: bool, fresh: bool) -> None:
    """Run everything on this machine until Ctrl-C: embedded PostgreSQL and Valkey, and all processes."""
    with _in_a_checkout():
        from intake.local import up

        up.up(HERE, samples=samples, services=not servers_only, archive=archive, fresh=fresh)


@cli.command()
def down() -> None:
    """Stop what `hoso24 up` started in this directory."""
    with _in_a_checkout():
        from ops.local.supervisor import stop_running

        sys.exit(0 if stop_running(HERE, click.echo) else 1)


@cli.command()
@click.option("--pause", type=click.FloatRange(0), default=4.0, show_default=True, help="Seconds between two steps.")
@click.pass_context
def demo(context: click.Context, pause: float) -> None:
    """Submit a dossier to the running system, move it step by step, to watch on its page, and verify the books."""
    with _in_a_checkout():
        from intake.local import demo as scenes

        scenes.demo(HERE, pause)
    from intake.settings import NotarySettings
    from ops.settings import read

    if "HOSO24_BOOKS" not in environment():
        return  # the servers are somebody else's, and their books too
    settings = read(NotarySettings, environment())
    books, key = f"http://127.0.0.1:{settings.port}/books", settings.signer().key.text
    click.echo(f"\nThe books have it: hoso24 audit verify --books {books} --key {key}\n")
    context.invoke(audit_verify, books=books, key=key, kept=(), since=None)


def _point_out_typos() -> None:
    """Warn of HOSO24_ variables that no process reads: usually typing mistakes."""
    from intake.settings import (
        IntakeSettings,
        MaintenanceSettings,
        NotarySettings,
        NoticesSettings,
        RelaySettings,
        WebhooksSettings,
    )
    from lookup.settings import LookupSettings, MigrateSettings
    from ops.process_settings import DoctorSettings
    from ops.settings import unknown

    classes = [
        *(LookupSettings, IntakeSettings, RelaySettings, NotarySettings, WebhooksSettings, NoticesSettings),
        *(MigrateSettings, MaintenanceSettings, DoctorSettings),
    ]
    for sentence in unknown(os.environ, classes):
        click.echo(sentence, err=True)


def environment() -> Mapping[str, str]:
    """This process's environment; if it names no server, with the settings of `hoso24 up` in this directory."""
    if any(name.startswith(("HOSO24_PG_", "HOSO24_REDIS_")) for name in os.environ):
        return os.environ
    return {**dict(_running_house()), **os.environ}


def _running_house() -> Iterator[tuple[str, str]]:
    path = HERE / "environ"
    if (HERE / "up.json").exists() and path.exists():
        for line in path.read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            yield name, "".join(shlex.split(value))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine and return its result; its errors are handled by _in_words."""
    with _in_words():
        return asyncio.run(work)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Turns an unwritable file, an unavailable PostgreSQL and a missing schema into a sentence and exit status 1."""
    import asyncpg

    from lookup.catalogue.load import NoCatalogue
    from ops.stores.calls import reason_of
    from ops.stores.postgres import POSTGRES_AWAY

    try:
        yield
    except NoCatalogue as error:
        raise click.ClickException(str(error)) from None
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
        raise click.ClickException(f"The database is not prepared: {error}. Run `hoso24 migrate` first.") from None
    except POSTGRES_AWAY as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise click.ClickException(f"{error.filename}: {error.strerror}.") from None
        raise click.ClickException(f"PostgreSQL cannot be used: {reason_of(error)}.") from None


async def _writer() -> Any:
    from intake.settings import WriterSettings
    from ops.settings import read
    from ops.stores.postgres import connect_directly

    return await connect_directly(read(WriterSettings, environment()).pg_url.reveal)


if __name__ == "__main__":
    main()
