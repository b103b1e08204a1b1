"""Takes traces as an OTLP/HTTP collector would, and throws them away: what leaves a server has to go somewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Collector(ThreadingHTTPServer):
    """On a free port of the loopback address, in threads of this process."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Swallower)
        self.taken = 0
        """Requests taken; each holds up to 512 spans."""

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Swallower(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """It is not read."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for as long as the block runs."""
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever, name="collector", daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()
