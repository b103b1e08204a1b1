"""Requests that nobody thought of, made by Schemathesis from the documents of both services.

Whatever comes, an answer is one that the document declares, never a failure of ours, and of the declared type.
"""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from intake.partners.letters import RefusedLine, keep
from ops.http.developer_pages import OPENAPI
from tests.conftest import Database
from tests.house import open_house

SECONDS = int(os.environ.get("HOSO24_PROOF_SECONDS", "30"))
"""For each service; `make proof` gives ten minutes."""
ROOT = Path(__file__).resolve().parent.parent
SEED = os.environ.get("HOSO24_PROOF_SEED", "1")

CONFIGURATION = """
# Not every valid request succeeds: whether a dossier may be moved depends on the dossier.
checks.positive_data_acceptance.enabled = false
# An address or a head that is too long is refused as that, whatever else is wrong with it.
checks.negative_data_rejection.expected-statuses = [
    400, 401, 403, 404, 405, 406, 409, 414, 415, 422, 428, 429, 431, "5xx"
]

[[operations]]
# A bad line is refused in its own line of the answer.
include-path = "/api/v1/sync"
checks.negative_data_rejection.enabled = false
"""


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("service", ["lookup", "intake"])
async def test_any_request_is_answered_as_the_document_says(
    database: Database, redis_url: str, writer: Any, tmp_path: Path, service: str
) -> None:
    unlimited = {"client_writes": 10**6, "client_reads": 10**6, "client_lines": 10**9}
    async with open_house(database, redis_url, lookup={"partners": ("127.0.0.0/8",)}, intake=unlimited) as house:
        code = (await house.receive(agency="G99.01.02"))["code"]
        await keep(writer, house.token.split("_")[1], [RefusedLine("a", b"{}", "unknown_agency", "Why.")])
        (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
        url = house.lookup_url if service == "lookup" else house.intake_url
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", url + OPENAPI, "--url", url),
            *("--seed", SEED, "--max-time", str(SECONDS), "--no-color"),
            *("--continue-on-failure", "--request-timeout", "30", "--generation-database", "none"),
            *(["--header", f"Authorization: Bearer {house.token}"] if service == "intake" else []),
        ]
        hooks = {
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.any_request_hooks",
            "HOSO24_ANY_REQUEST_CODE": code,
        }
        run = await asyncio.create_subprocess_exec(
            *command,
            cwd=tmp_path,
            env=os.environ | hooks,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await run.communicate())[0].decode()
    (cases,) = re.findall(r"(\d[\d,]*) generated", said)
    assert run.returncode == 0, said
    assert int(cases.replace(",", "")) > 100, said
