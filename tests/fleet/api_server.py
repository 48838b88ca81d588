"""A double of the API server of Kubernetes: lists and patches pods over TLS, for who has the token."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

from antiphon.fleet.pods import COST, MERGE

NAMESPACE = "voice"
SELECTOR = "app.kubernetes.io/component=agent-worker"
PAGE = 2  # pods, however many are asked for


@dataclass
class ApiServer:
    """The pods, by name, and the requests."""

    url: str
    folder: Path  # as it is mounted into each pod
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: int = 0  # with this status

    def add(self, name: str, cost: str | None = None, *, leaving: bool = False) -> None:
        """Add a pod."""
        metadata: dict[str, Any] = {"name": name}
        if cost is not None:
            metadata["annotations"] = {COST: cost, "other": "kept"}
        if leaving:
            metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
        self.pods[name] = metadata

    def cost(self, name: str) -> str | None:
        """Return the deletion cost of a pod."""
        found = self.pods[name].get("annotations", {}).get(COST)
        return None if found is None else str(found)

    def patched(self) -> list[str]:
        """Return the pods that were patched, in order."""
        return [request.rpartition("/")[2] for request in self.requests if request.startswith("PATCH")]

    def token(self, text: str) -> None:
        """Replace the token, as Kubernetes does every hour."""
        (self.folder / "token").write_text(text + "\n")

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer as the API server does."""
        self.requests.append(f"{method} {urlsplit(path).path}")
        if headers["Authorization"] != f"Bearer {(self.folder / 'token').read_text().strip()}":
            return 401, {"message": "Unauthorized"}
        if self.refuse:
            return self.refuse, {"message": "pods is forbidden"}
        base = f"/api/v1/namespaces/{NAMESPACE}/pods"
        target, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        if method == "GET" and target == base and "as=PartialObjectMetadataList" in headers["Accept"]:
            return self._list(query)
        if method == "PATCH" and headers["Content-Type"] == MERGE:
            return self._patch(target.removeprefix(f"{base}/"), json.loads(body))
        return 400, {"message": f"no such request: {method} {path}"}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if query.get("labelSelector") != [SELECTOR]:
            return 400, {"message": "no label selector"}
        start = int(query.get("continue", ["0"])[0])
        names = list(self.pods)
        end = start + PAGE
        return 200, {
            "metadata": {"continue": str(end) if end < len(names) else ""},
            "items": [{"metadata": self.pods[name]} for name in names[start:end]],
        }

    def _patch(self, name: str, patch: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if name not in self.pods:
            return 404, {"message": f'pods "{name}" not found'}
        self.pods[name].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
        return 200, {"metadata": self.pods[name]}


@contextmanager
def serve(folder: Path) -> Iterator[ApiServer]:
    """Serve on a free port; the folder gets what is mounted into a pod."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    (folder / "namespace").write_text(NAMESPACE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = double.answer(self.command, self.path, self.headers, body)
            payload = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PATCH = _answer  # noqa: N815 - as the library names them

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    double = ApiServer(f"https://127.0.0.1:{server.server_port}", folder)
    double.token("first")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
