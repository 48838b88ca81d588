"""A probe keeps its connection, makes another when the server has closed it, and says what is wrong."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.probe import NO_RESPONSE, HttpClient, NoResponse, healthy


class Server(ThreadingHTTPServer):
    """A server with a fixed response that counts its connections."""

    daemon_threads = True
    status = 200
    body = b"{}"
    close = False
    connections = 0
    paths: list[str]

    def process_request(self, *arguments: object) -> None:
        self.connections += 1
        super().process_request(*arguments)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Responds as the server says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)
        self.close_connection = self.server.close  # without saying so

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.paths = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _url(server: Server, path: str = "") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_the_connection_is_kept(server: Server) -> None:
    probe = healthy(_url(server))

    assert [probe() for _ in range(5)] == [None] * 5
    assert server.connections == 1
    assert set(server.paths) == {"/health/ready"}


def test_a_connection_that_the_server_has_closed_is_made_again(server: Server) -> None:
    server.close = True
    probe = healthy(_url(server))

    assert [probe() for _ in range(3)] == [None] * 3
    assert server.connections == 3


def test_an_unready_service_says_why(server: Server) -> None:
    server.status, server.body = 503, b'{"checks": {"a": {"ok": false, "detail": "gone"}, "b": {"ok": true}}}'
    assert healthy(_url(server))() == "a: gone"

    server.body = b"<html>"
    assert healthy(_url(server))() == "HTTP 503"


def test_a_large_response_is_not_read_to_its_end(server: Server) -> None:
    server.body = b"x" * 5_000_000
    client = HttpClient(_url(server, "/base/"))

    for _ in range(2):
        status, content = client.request("GET", "/path")
        assert (status, len(content)) == (200, 65_536)

    assert server.paths == ["/base/path"] * 2


def test_a_server_that_is_gone_does_not_respond() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert healthy(url)() == NO_RESPONSE
    with pytest.raises(NoResponse):
        HttpClient(url).request("GET", "/")


def test_a_long_reason_is_cut_and_the_other_checks_are_still_named(server: Server) -> None:
    long = b'{"checks": {"a": {"ok": false, "detail": "%s"}, "b": {"ok": false, "detail": "short"}}}' % (
        b"stalled at an event " * 100
    )
    server.status, server.body = 503, long

    reason = healthy(_url(server))()

    assert reason is not None
    assert reason.startswith("a: stalled at an event")
    assert reason.endswith("…; b: short")
    assert len(reason) < 220
