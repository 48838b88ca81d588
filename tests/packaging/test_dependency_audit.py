"""The audit of the locked requirements: pip-audit on a stand-in for OSV, and what it must not hide."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tools.dependencies import audit
from tools.dependencies.audit import (
    IGNORED,
    LOCKS,
    Ignored,
    InvalidList,
    NotAudited,
    pinned,
    read_ignored,
    report,
)

KNOWN = "GHSA-0000-0000-0001"
TODAY = date(2026, 11, 22)
ENTRY = '[[ignored]]\nid = "X-1"\nreason = "not called"\nexpires = {}\n'


class Service(BaseHTTPRequestHandler):
    """Answers as OSV does: `idna` has a vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"id": KNOWN, "summary": "s", "aliases": [], "affected": []}
        vulns = [known] if asked["package"]["name"] == "idna" else []
        body = json.dumps({"vulns": vulns}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_known_vulnerability_is_found_and_may_be_ignored(service: str) -> None:
    command = [*audit.tool(), "--osv-url", f"{service}/v1/query"]
    locks = [audit.TOOL_LOCK]
    lines, failed = report(audit.audit(command, locks, []))
    assert failed
    assert lines == [f"idna 3.20: {KNOWN}; fixed in no version yet"]

    lines, failed = report(audit.audit(command, locks, [Ignored(KNOWN, "why", TODAY)]))
    assert (lines[0].startswith("No known vulnerability in "), failed) == (True, False)

    gone = [*audit.tool(), "--osv-url", "http://127.0.0.1:1/v1/query"]
    with pytest.raises(NotAudited):
        audit.audit(gone, locks, [])


def test_what_was_skipped_was_not_audited() -> None:
    """pip-audit exits with 0 and says that there are none when an index answers 404 to every question."""
    skipped = {"name": "a", "skip_reason": "Dependency not found on PyPI"}
    with pytest.raises(NotAudited, match="1 of 2 requirements were skipped: a"):
        report([skipped, {"name": "b", "version": "1", "vulns": []}])
    with pytest.raises(NotAudited):
        report([])


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
def test_without_the_network_it_says_that_nothing_was_audited(
    required: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "tool", lambda: ["/bin/sh", "-c", "echo no route >&2; exit 1"])
    monkeypatch.setenv(audit.REQUIRED, required)

    assert audit.main() == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "The dependencies were NOT audited: no route\n")


def test_each_version_of_a_lock_is_looked_up() -> None:
    hashed = " \\\n    --hash=sha256:0\n"
    lock = hashed.join(("a==1 ; python_version < '3.12'", "a==2 ; python_version >= '3.12'", "b[x]==3", ""))
    assert pinned([lock, f"a==1{hashed}"]) == [{"a": "==1", "b": "==3"}, {"a": "==2"}]
    assert sum(map(len, pinned(lock.read_text() for lock in LOCKS))) > 150


def test_no_ignored_vulnerability_has_expired() -> None:
    read_ignored(IGNORED, datetime.now(UTC).date())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (ENTRY.format("2026-11-21"), "X-1 expired on 2026-11-21"),
        (ENTRY.format('"soon"'), "X-1 needs"),
        ('[[ignored]]\nid = "X-1"\nexpires = 2027-01-01\n', "X-1 needs"),
    ],
)
def test_an_ignored_vulnerability_has_a_reason_and_a_day(text: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "ignored.toml"
    path.write_text(text)
    with pytest.raises(InvalidList, match=error):
        read_ignored(path, TODAY)
    path.write_text(ENTRY.format("2026-11-22"))
    assert read_ignored(path, TODAY) == [Ignored("X-1", "not called", TODAY)]
