"""A proxy on loopback that knows the names of Services: what KEDA and `helm test` ask reaches a process here.

A cluster has DNS and Service addresses. Here, HTTP clients that have this proxy in `HTTP_PROXY` ask it for
`http://antiphon-fleet.apps.svc:8004/scale`, and it asks the port on loopback that a test has named.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

from antiphon.cli.settings import LOOPBACK

FORWARD_SECONDS = 60.0
HOP_BY_HOP = {
    "connection", "host", "keep-alive", "proxy-authorization", "proxy-connection", "transfer-encoding",
    "content-length", "content-encoding", "accept-encoding",
}  # fmt: skip


class ServiceNames:
    """The proxy, and the ports of Services by `name.namespace`."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.asked: list[str] = []  # URLs, in order
        self._client = httpx.Client(timeout=FORWARD_SECONDS, trust_env=False)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="service names", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the proxy."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make HTTP clients use it."""
        direct = f"{LOOPBACK},localhost"
        return {"HTTP_PROXY": self.url, "http_proxy": self.url, "NO_PROXY": direct, "no_proxy": direct}

    def close(self) -> None:
        """Stop the proxy."""
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Ask the process behind a Service; 502 if there is none."""
        self.asked.append(url)
        parts = urlsplit(url)
        service = ".".join((parts.hostname or "").split(".")[:2])
        ports = [port for name, port in self.ports.items() if service in (name, name.partition(".")[0])]
        if len(ports) != 1:  # a name without a namespace is found when it is the only one
            return httpx.Response(502, text=f"{len(ports)} processes are behind the Service {service}\n")
        port = ports[0]
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            return self._client.request(method, f"http://{LOOPBACK}:{port}{path}", headers=sent, content=body)
        except httpx.TransportError as error:
            return httpx.Response(502, text=f"{service} does not answer: {error!r}\n")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        names = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = names.answer(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        return Handler
