"""`hoso24 demo` moves a dossier through the system that `hoso24 up` runs here, slowly enough to watch on its page."""

import http.client
import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import segno

from lookup import code as codes
from ops.local.cannot_start import CannotStart


@dataclass(frozen=True)
class _Scene:
    """One step of the demonstration."""

    to: str
    says: str
    note: str | None = None
    items: tuple[str, ...] = ()
    department: str | None = None


LIFE = (
    _Scene("received", "The one-stop unit accepts it: the receipt is issued, the due date is set."),
    _Scene("processing", "A department starts processing it.", department="Phòng Chế độ (hư cấu)"),
    _Scene(
        "supplement_required",
        "A paper is missing; the time limit is paused.",
        note="Hồ sơ còn thiếu (ví dụ):",
        items=("Bản sao sổ bảo hiểm (ví dụ)",),
    ),
    _Scene("processing", "The paper has arrived; the due date is counted anew.", department="Phòng Chế độ (hư cấu)"),
    _Scene("completed", "The work is done; this moment decides whether it was on time."),
    _Scene("returned", "The applicant has the result. This status is final."),
)


def demo(directory: Path, pause: float) -> None:
    """Submit a dossier and move it step by step, `pause` seconds apart. Raises CannotStart if nothing runs here."""
    path = directory / "up.json"
    if not path.exists():
        raise CannotStart("Nothing is running here: run `make up` in another terminal first.")
    house = json.loads(path.read_text("utf-8"))
    submission = {
        "agency": "G99.01.01",
        "service": "S.004",
        "channel": "online",
        "applicant": {"name": "Trần Thị Ví Dụ (hư cấu)"},
    }
    submitted = _send(house, "/api/v1/dossiers", submission)
    code, link = codes.parse(submitted["code"]), submitted["confirmation"]["link"]
    click.echo(f"Submitted: {code}, lookup key {submitted['lookup_key']}. Open its page and watch:\n")
    click.echo(f"  {link}\n")
    segno.make(link, micro=False).terminal(out=sys.stdout, compact=True)
    for scene in LIFE:
        time.sleep(pause)
        move = {name: value for name, value in vars(scene).items() if name != "says" and value}
        answer = _send(house, f"/api/v1/dossiers/{code.path}/transitions", move)
        click.echo(f"{scene.to:>20}  (version {answer['version']})  {scene.says}")


def _send(house: Mapping[str, Any], path: str, content: Mapping[str, Any]) -> Any:
    parts = urlsplit(house["intake"])
    headers = {"Authorization": f"Bearer {house['token']}", "Idempotency-Key": str(uuid.uuid4())}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(content), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except OSError as error:
        raise CannotStart(f"The intake does not answer ({error}): check that `make up` is still running.") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise CannotStart(f"The intake refused: {answer['title']} {answer.get('detail', '')}")
    return answer
