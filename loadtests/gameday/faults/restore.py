"""Postgres is restored to two minutes ago: the steps of docs/runbooks/restore.md, under load.

What was acknowledged in these two minutes is lost on purpose. The promise is that `hoso24 cache lost` names it, and
that none of it is served once the caches are renewed.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests.gameday.day import Day, Fault
from loadtests.gameday.faults.postgres import (
    BATCH,
    KNOWN,
    NOT_FOUND,
    UNTIL_HEALED,
    batch,
    changes_kept,
    restarted,
    warm,
)
from loadtests.gameday.promises import none_failed, nothing_wrong
from loadtests.system.http_client import Client, NoAnswer
from loadtests.system.postgres import Node
from loadtests.system.processes import HOSO24, finished
from loadtests.system.replicas import Faulty, Replica
from loadtests.verdict import Row

RUNBOOK = Path(__file__).resolve().parents[3] / "docs" / "runbooks" / "skip_numbers.sql"
GONE_BACK = 120.0
"""How far Postgres is restored into the past, in seconds."""
NOTICE = 1.0
"""Until it has got about that an intake is going away, in seconds."""
COMMAND_SECONDS = 120.0
CHANGES_OVER = 10.0
"""Within how many seconds of the relay's going on every lookup has to have changed over."""

NOW = "SELECT clock_timestamp()"
IMPORTED = "SELECT DISTINCT code FROM event WHERE bulk"
VERSIONS = "SELECT code, max(version) AS version FROM event GROUP BY code"
IN_RECOVERY = "SELECT pg_is_in_recovery()"
FOR_THE_RECOVERY = ("recovery_target_time", "recovery_target_action", "restore_command")


@dataclass
class Restore:
    """What became of it; moments on the monotonic clock."""

    began: float = 0.0
    restored: float = 0.0
    alarmed: float = 0.0
    renewed: float = 0.0
    fresh: float = 0.0
    write: float = 0.0
    lost: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Code → the version that is left, 0 for none, and the last one there was."""
    named: set[tuple[str, int]] = field(default_factory=set)
    """What `hoso24 cache lost` has named."""
    left_over: int = 0
    """Lost dossiers that the restored log has at another version than it should."""
    imported: set[str] = field(default_factory=set)
    """Codes that came with an import: no stream has ever told of them."""
    served_wrongly: Sequence[str] = ()

    @property
    def unnamed(self) -> set[tuple[str, int]]:
        """Lost changes that the stream had told of, and `hoso24 cache lost` did not name."""
        return {
            (code, version)
            for code, (left, had) in self.lost.items()
            if code not in self.imported
            for version in range(left + 1, had + 1)
        } - self.named

    @property
    def wrongly_named(self) -> set[tuple[str, int]]:
        """What it named though the log has it."""
        return {(code, version) for code, version in self.named if version <= self.lost.get(code, (0, 0))[0]}


async def restore(day: Day) -> list[Row]:
    """All three servers go back; the standbys are made anew from the restored primary."""
    primary, intakes = day.stage.postgres.primary, len(day.stage.intakes.replicas)
    backup = await _base_backup(day, primary)
    async with day.crowd.changes_held():  # so that it is known which changes lie before that moment
        target, had_then = await _now(day), await _versions(day)
    watched = time.monotonic()
    day.say(f"{GONE_BACK:g} s that are going to be lost")
    await asyncio.sleep(GONE_BACK)  # this is the fault: so much is lost
    done = Restore()
    async with day.crowd.changes_held():
        await warm(day)
        done.imported = await _imported(day)
        done.lost = await _lost(day, had_then)
        done.began = time.monotonic()
        await _keep_the_intake_away(day)
        # From here on the log no longer has them, and the caches still do: both are right until these are renewed.
        day.expected.strike((code, left + 1) for code, (left, _) in done.lost.items())
        await _put_back(day, primary, backup, target)
        done.restored, done.left_over = time.monotonic(), await _not_gone(day, done.lost)
        await _until_alarmed(day)
        done.alarmed = time.monotonic()
        done.named = await _named(day)
        await _leave_numbers_out(day, target)
        await _renew(day, done, target)
        await day.stage.intakes.scale(intakes)
        await day.visible(UNTIL_HEALED)
    done.fresh = time.monotonic()
    done.write = min(day.record.acknowledged(done.renewed, done.fresh), default=done.fresh)
    await day.crowd.answered(done.fresh)
    return [
        *_judged(day, done),
        none_failed(day.record.window(watched, None, *KNOWN)),
        nothing_wrong(day.record.window(watched)),
        await changes_kept(day),
    ]


def _judged(day: Day, done: Restore) -> list[Row]:
    moments = {name: getattr(done, name) - done.began for name in ("restored", "alarmed", "renewed", "write", "fresh")}
    for name, seconds in moments.items():
        day.figure(RESTORED.name, "first_write_s" if name == "write" else f"{name}_s", seconds)
    changes = sum(had - left for left, had in done.lost.values())
    imports = len(done.imported & done.lost.keys())
    day.figure(RESTORED.name, "lost_changes", changes)
    asked = len(done.lost) * len(day.stage.lookups.replicas)
    return [
        Row(
            "relay and notary",
            f"stopped with their alarms after {moments['alarmed']:.1f} s",
            "stop with an alarm",
            kept=True,
        ),
        Row(
            "hoso24 cache lost",
            f"{changes:,} acknowledged changes lost, {imports} dossiers among them from imports; "
            f"{len(done.unnamed)} not named, {len(done.wrongly_named)} named wrongly",
            "names each that was delivered, and no other",
            kept=changes > imports and not done.unnamed and not done.wrongly_named,
        ),
        Row(
            "the restored log",
            f"{done.left_over} of {len(done.lost):,} dossiers at another version than at the moment it went back to",
            "0",
            kept=done.left_over == 0,
        ),
        Row(
            "the lost future",
            f"{len(done.served_wrongly)} of {asked:,} answers not as the log has it, each of {len(done.lost):,} "
            f"dossiers asked of each lookup{': ' if done.served_wrongly else ''}{'; '.join(done.served_wrongly[:3])}",
            "none of it served",
            kept=asked > 0 and not done.served_wrongly,
        ),
        Row(
            "recovery",
            f"from keeping the intake away on: restored after {moments['restored']:.1f} s, caches renewed after "
            f"{moments['renewed']:.1f} s, first write after {moments['write']:.1f} s, visible in every lookup after "
            f"{moments['fresh']:.1f} s",
            "told",
            kept=True,
        ),
    ]


# -- the servers: steps 1 to 4 ----------------------------------------------------------------------------------


async def _now(day: Day) -> datetime:
    moment: datetime = await day.stage.postgres.ask(NOW)
    return moment


async def _base_backup(day: Day, node: Node) -> Path:
    """What the operator has in any case: a base backup; the log since then goes into the archive."""
    day.say("a base backup")
    backup, server = day.stage.folder / f"base-backup-{int(time.time())}", node.server
    await _run(
        str(server.bin_directory / "pg_basebackup"),
        *(f"--pgdata={backup}", f"--host={server.host}", f"--port={server.port}", "--username=postgres"),
        *("--checkpoint=fast", "--wal-method=stream"),
        environ={"PGPASSWORD": urlsplit(server.admin_url).password or ""},
    )
    return backup


async def _keep_the_intake_away(day: Day) -> None:
    day.say("the intake is kept away")
    intakes = day.stage.intakes
    await asyncio.gather(*(intakes.retire(replica, NOTICE) for replica in list(intakes.replicas)))


async def _put_back(day: Day, primary: Node, backup: Path, target: datetime) -> None:
    """The restored primary, and the standbys made anew: without one of them no commit is confirmed."""
    day.say("Postgres is restored")
    cluster = day.stage.postgres
    await asyncio.gather(*(asyncio.to_thread(node.server.stop) for node in cluster.nodes))
    await asyncio.to_thread(_replace_data, primary, backup, day.stage.folder / "postgres" / "archive", target)
    await restarted(primary)

    async def promoted() -> bool:
        return not await cluster.ask(IN_RECOVERY)

    await day.until(promoted, UNTIL_HEALED, "the restored server takes writes")
    async with cluster.connected() as admin:
        for setting in FOR_THE_RECOVERY:
            await admin.execute(f"ALTER SYSTEM RESET {setting}")
    day.say("the standbys are made anew")
    for node in list(cluster.standbys):
        await cluster.rejoin(node, afresh=True)
    await cluster.in_step()


def _replace_data(node: Node, backup: Path, archive: Path, target: datetime) -> None:
    """The backup in the place of the data; these are kept, and the last pieces of their log put into the archive."""
    data = node.server.data_directory
    kept = data.with_name(f"data.lost-{int(target.timestamp())}")
    data.rename(kept)
    owner = kept.stat()
    for piece in sorted((kept / "pg_wal").glob("0*")):
        if not (archive / piece.name).exists():
            shutil.copy2(piece, archive / piece.name)
            os.chown(archive / piece.name, owner.st_uid, owner.st_gid)
    shutil.move(backup, data)
    settings = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_time": target.isoformat(),
        "recovery_target_action": "promote",
    }
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (data / "recovery.signal").touch()
    for path in (data, *data.rglob("*")):  # started as root, the server runs under another account
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    data.chmod(0o700)


# -- relay and caches: steps 5 to 8 -----------------------------------------------------------------------------


async def _until_alarmed(day: Day) -> None:
    day.say("waiting for the alarms of relay and notary")

    async def halted() -> bool:
        return 1.0 in [await day.metric(relay, "relay_halted") for relay in day.stage.relays.replicas]

    await day.until(halted, UNTIL_HEALED, "the relay has stopped with its alarm")

    async def books_halted() -> bool:
        return 1.0 in [await day.metric(notary, "notary_halted") for notary in day.stage.notaries.replicas]

    await day.until(books_halted, UNTIL_HEALED, "the notary has stopped with its alarm")


async def _imported(day: Day) -> set[str]:
    async with day.stage.postgres.connected("owner") as connection:
        return {row["code"] for row in await connection.fetch(IMPORTED)}


async def _versions(day: Day) -> dict[str, int]:
    """What the log has now."""
    async with day.stage.postgres.connected("owner") as connection:
        return {row["code"]: row["version"] for row in await connection.fetch(VERSIONS)}


async def _lost(day: Day, had_then: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What is in the log now and was not then."""
    now = await _versions(day)
    return {code: (had_then.get(code, 0), had) for code, had in now.items() if had_then.get(code, 0) < had}


async def _not_gone(day: Day, lost: Mapping[str, tuple[int, int]]) -> int:
    """How many of these the restored log does not have as they were."""
    now = await _versions(day)
    return sum(now.get(code, 0) != left for code, (left, _) in lost.items())


async def _named(day: Day) -> set[tuple[str, int]]:
    """What `hoso24 cache lost` names."""
    day.say("hoso24 cache lost")
    path = day.stage.folder / "lost.ndjson"
    await _run(*HOSO24, "cache", "lost", "-o", str(path), environ=day.stage.operator)
    told = (json.loads(line) for line in path.read_bytes().splitlines())
    return {(each["code"], each["version"]) for each in told}


async def _leave_numbers_out(day: Day, target: datetime) -> None:
    """In the runbook's own words."""
    statement = numbers_left_out(RUNBOOK.read_text("utf-8"), target.isoformat())
    async with day.stage.postgres.connected("owner") as connection:
        await connection.execute(statement)


def numbers_left_out(statement: str, target: str) -> str:
    """The runbook's statement by which no number on a lost receipt is given out again."""
    return statement.replace(":'target'", f"'{target}'")  # as psql does


async def _renew(day: Day, done: Restore, target: datetime) -> None:
    """A new epoch; when every lookup has changed over, each lost change is asked of each of them."""
    day.say("hoso24 cache renew")
    why = f"restored to {target.isoformat()}"
    await _run(*HOSO24, "cache", "renew", "--reason", why, environ=day.stage.operator)

    async def delivers() -> bool:
        leader = await day.leader()
        return leader is not None and await day.metric(leader, "relay_halted") == 0.0

    await day.until(delivers, UNTIL_HEALED, "the relay delivers again")
    lookups = day.stage.lookups.replicas
    some = dict(list(done.lost.items())[:1])

    async def changed_over() -> bool:
        return not any(await asyncio.gather(*(_not_as_logged(each, some) for each in lookups)))

    await day.until(changed_over, CHANGES_OVER, "every lookup has changed over")
    done.renewed = time.monotonic()
    day.expected.bury()
    day.crowd.forget({code for code, (left, _) in done.lost.items() if not left})
    day.say("each lost change is asked of each lookup")
    found = await asyncio.gather(*(_not_as_logged(each, done.lost) for each in lookups))
    done.served_wrongly = [each for some_lookup in found for each in some_lookup]


async def _not_as_logged(replica: Replica, lost: Mapping[str, tuple[int, int]]) -> Sequence[str]:
    """Which of these it does not answer as the log has them, asked in batches."""
    codes, wrong = list(lost), list[str]()
    with Client.of(replica.port) as client:
        for start in range(0, len(codes), BATCH):
            for code, served in (await _served(client, codes[start : start + BATCH])).items():
                if served != lost[code][0]:
                    wrong.append(f"{replica.name} serves {code} at {served}, the log has {lost[code][0]}")
    return wrong


async def _served(client: Client, codes: Sequence[str]) -> dict[str, int | str]:
    """For each its version, 0 where there is no such dossier, or what else was answered."""
    try:
        answer = await client.ask(batch(codes))
    except NoAnswer as none:
        return dict.fromkeys(codes, str(none))
    if answer.status != 200:
        return dict.fromkeys(codes, f"status {answer.status}")
    return {each["code"]: _version(each) for each in answer.json()["results"]}


def _version(result: Mapping[str, Any]) -> int | str:
    if "dossier" in result:
        return int(result["dossier"]["version"])
    return 0 if result["error"] == NOT_FOUND else str(result["error"])


# -- commands ---------------------------------------------------------------------------------------------------


async def _run(*words: str, environ: Mapping[str, str]) -> None:
    """Run it to its end. Raises Faulty when that is not a good one."""
    status, output = await finished(*words, environ=environ, seconds=COMMAND_SECONDS)
    if status != 0:
        short = " ".join(Path(word).name for word in words if not word.startswith("-"))
        raise Faulty(f"{short} ended with {status}: {output[-500:]}")


RESTORED = Fault(
    "postgres-restored",
    f"Postgres restored to {GONE_BACK / 60:g} minutes ago",
    "relay and notary stop with an alarm; after `hoso24 cache renew` nothing of the lost future is served; time told",
    restore,
)
