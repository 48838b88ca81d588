"""Read sessions of a server on loopback, and get its problem as an error."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from antiphon.client import Antiphon, NotFound

PROBLEM = {"type": "/problems/not-found", "title": "Not found", "status": 404, "detail": "no such session"}
EMPTY: dict[str, object] = {"sessions": [], "next_cursor": None}


class Server(BaseHTTPRequestHandler):
    """Answer like session-api without sessions."""

    def do_GET(self) -> None:
        """Answer with an empty page, or with a problem."""
        found = self.path.split("?")[0] == "/v1/sessions"
        body = json.dumps(EMPTY if found else PROBLEM).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json" if found else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Make two requests."""
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Antiphon(f"http://127.0.0.1:{server.server_port}", "key") as client:
            assert list(client.sessions.list()) == []
            try:
                client.sessions.get("ses_01m7y273t4fbnspf5tgq7d595b")
            except NotFound as error:
                print(f"a page was read, and a problem is an error: {error}")
            else:
                raise AssertionError("the problem was not raised")
        server.shutdown()


main()
