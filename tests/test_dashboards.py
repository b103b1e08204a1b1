"""Every query of every panel, asked of a real Prometheus that gathers from a running house under load."""

import contextlib
import json
import math
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.local.ports import free_port
from ops.monitoring import dashboards, rules
from ops.monitoring.objectives import alerts, objectives
from tests.places import in_memory
from tests.programs import program
from tests.system.test_up import get, running, send, wait_for

pytestmark = pytest.mark.servers

EDGE = b"probe_success 1\nprobe_ssl_earliest_cert_expiry 4102444800\n"
UNKNOWN = "G99.12.01-260101-9999"


class BlackBox(BaseHTTPRequestHandler):
    """What a black-box exporter would say while all is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(EDGE)

    def do_POST(self) -> None:
        """Take a webhook's page."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Prometheus:
    """A Prometheus with our rules that gathers once a second."""

    def __init__(self, directory: Path, targets: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{free_port(19090)}"
        groups = rules.groups(objectives(), alerts())
        for group in groups:
            group.pop("interval", None)
        (directory / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc]}]}
                for job, url in targets.items()
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (directory / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                f"--web.listen-address={urllib.parse.urlsplit(self.url).netloc}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, expr: str) -> list[float]:
        """The values of an instant query that are numbers; none while it does not answer yet."""
        query = urllib.parse.urlencode(
            {"query": expr.replace("$__rate_interval", "20s").replace("$namespace", ".*").replace("$pod", ".*")}
        )
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=5) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []
            raise AssertionError(f"{expr}: {error.read().decode()}") from error
        except OSError:  # not there yet, gone in the middle, or busy
            return []
        values = [float(each["value"][1]) for each in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        self._log.close()


class Visitors:
    """Citizens, an office, and a partner that pushes, follows and has a webhook, until they are told to stop."""

    def __init__(self, house: dict[str, Any], receiver: str) -> None:
        self._house = house
        bearer = {"Authorization": f"Bearer {house['token']}"}
        assert send("POST", f"{house['intake']}/api/v1/webhooks", {"url": receiver}, **bearer)[0] == 201
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._citizen, self._office, self._partner)]
        for thread in self._threads:
            thread.start()

    def _citizen(self) -> None:
        codes = [sample["code"] for sample in self._house["samples"]] + [UNKNOWN]
        while not self._stop.wait(0.02):
            for code in codes:
                with contextlib.suppress(OSError):  # a slow machine is not what is tested here
                    get(f"{self._house['lookup']}/api/v1/dossiers/{code}")

    def _office(self) -> None:
        bearer = {"Authorization": f"Bearer {self._house['token']}"}
        applicant = {"name": "Lê Thị Thử (hư cấu)"}
        told = {"notify": {"mail": "le-thi-thu@vi-du.example"}}
        submission = {"agency": "G99.01.01", "service": "S.004", "applicant": applicant} | told
        while not self._stop.wait(0.2):
            with contextlib.suppress(OSError):
                status, receipt = send("POST", self._house["intake"] + "/api/v1/dossiers", submission, **bearer)
                if status == 201:
                    moves = f"{self._house['intake']}/api/v1/dossiers/{receipt['code']}/transitions"
                    send("POST", moves, {"to": "received"}, **bearer)

    def _partner(self) -> None:
        bearer = {"Authorization": f"Bearer {self._house['token']}"}
        submission = {"agency": "G99.01.01", "service": "S.004", "applicant": {"name": "Lê Thị Thử (hư cấu)"}}
        while not self._stop.wait(0.2):
            with contextlib.suppress(OSError):
                get(f"{self._house['intake']}/api/v1/changes?from=now&wait=1", **bearer)
                code = send("POST", self._house["intake"] + "/api/v1/dossiers", submission, **bearer)[1]["code"]
                self._push({"id": code, "dossier": code, "status": "received"})

    def _push(self, line: dict[str, str]) -> None:
        headers = {"Authorization": f"Bearer {self._house['token']}", "Content-Type": "application/x-ndjson"}
        body = json.dumps(line).encode()
        pushed = urllib.request.Request(f"{self._house['intake']}/api/v1/sync", body, headers)  # noqa: S310
        with urllib.request.urlopen(pushed, timeout=10) as answer:  # noqa: S310
            assert answer.status == 200

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    program("prometheus")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hoso24-dashboards-", dir=in_memory())))
        directory.chmod(0o755)
        up = stack.enter_context(running(directory))
        house = up.wait_until_ready()
        edge = HTTPServer(("127.0.0.1", 0), BlackBox)
        stack.callback(edge.server_close)
        threading.Thread(target=edge.serve_forever, daemon=True).start()
        stack.callback(edge.shutdown)
        admins = {
            name: house[f"{name}_admin"]
            for name in ("lookup", "intake", "relay", "notary", "webhooks", "notices", "desk")
        }
        gathering = Prometheus(directory, admins | {"hoso24-edge": f"http://127.0.0.1:{edge.server_port}"})
        stack.callback(gathering.stop)
        visitors = Visitors(house, f"http://127.0.0.1:{edge.server_port}/")
        stack.callback(visitors.stop)
        yield gathering


def test_every_query_of_every_panel_returns_data(prometheus: Prometheus) -> None:
    queries = {
        (panel["title"], target["expr"])
        for each in dashboards.dashboards(objectives())
        for panel in dashboards.grafana(each)["panels"]
        for target in panel.get("targets", [])
    }
    without = set(queries)
    deadline = time.monotonic() + 60

    def all_answered() -> bool:
        without.difference_update({each for each in without if prometheus.ask(each[1])})
        return not without or time.monotonic() > deadline

    wait_for(all_answered)
    assert without == set()
    assert prometheus.ask('count(ALERTS{alertstate="firing"}) or vector(0)') == [0.0]
