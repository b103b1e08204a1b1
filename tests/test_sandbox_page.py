"""docs/sandbox.md: what it tells developers to type is typed here, in its order, and answers as it says."""

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import hoso24
from intake.partners.sandbox import WAY
from lookup import sandbox
from lookup.status import Status
from tests.conftest import Database
from tests.house import open_house
from tests.programs import program

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "sandbox.md").read_text("utf-8")


def blocks(heading: str) -> list[str]:
    """The shell blocks below a heading, in their order."""
    (part,) = [each for each in PAGE.split("\n## ") if each.startswith(heading)]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def test_codes_and_steps_are_the_sandboxs() -> None:
    assert sandbox.fixed("X99", Status.SUBMITTED).text in PAGE
    assert sandbox.fixed("X99", Status.RETURNED).text in PAGE
    minutes, statuses = [0], ["submitted"]
    at: tuple[Status, int] = (Status.SUBMITTED, 0)
    while (step := WAY.get(at)) is not None:
        minutes.append(minutes[-1] + step.minutes)
        statuses.append(step.to.slug)
        at = (step.to, at[1] + step.to.paused)
    assert f"| minute | {' | '.join(map(str, minutes))} |" in PAGE
    assert f"| status | {' | '.join(f'`{each}`' for each in statuses)} |" in PAGE


async def test_what_is_to_be_typed_works(
    database: Database, owner: Any, redis_url: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HOSO24_PG_OWNER_URL", database.owner_url)
    for command in "".join(blocks("For operators")).replace("\\\n", "").splitlines():
        words = command.partition("#")[0].split(maxsplit=1)[1]
        result = await asyncio.to_thread(CliRunner().invoke, hoso24.cli, shlex.split(words))
        assert result.exit_code == 0, result.output
    token = result.output.split()[-1]
    async with open_house(database, redis_url, intake={"sandbox": "on"}) as house:
        path = f"{Path(program('curl')).parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
        environ = {"LOOKUP": house.lookup_url, "INTAKE": house.intake_url, "TOKEN": token, "PATH": path}
        script = "\necho; echo ---\n".join(blocks("Receive"))
        process = await asyncio.create_subprocess_exec(
            *("bash", "-eu", "-c", script), cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        _, seen, moved, read, refused, followed, client = [part.strip() for part in output.decode().split("---")]
        assert json.loads(seen)["agency"]["code"] == "X99.03"
        assert (json.loads(moved)["version"], json.loads(moved)["due_at"] is not None) == (2, True)
        told = json.loads(followed)["events"]
        assert any(each["subject"] == json.loads(seen)["code"] for each in told)
        assert any(each["subject"].startswith("X99.02-") for each in told)
        assert json.loads(read)["status"] == "received"
        assert {each["name"] for each in json.loads(client)["limits"]} == {"write", "read", "sync"}
        assert (json.loads(refused)["code"], "processing" in json.loads(refused)["allowed"]) == (
            "move_not_allowed",
            True,
        )
