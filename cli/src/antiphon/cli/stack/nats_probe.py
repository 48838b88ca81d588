"""Ask a NATS server for its health over a plain socket: only chassis.bus depends on the NATS client."""

import json
import socket
from typing import Any

from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack.nats_users import Login

NO_ANSWER = "does not respond"
WRITE_FAULT = "cannot write"  # the start of the reason, for a server that stays so until it is restarted
TIMEOUT_SECONDS = 2.0
_INBOX = "_INBOX.supervisor.ready"


def fault(port: int, supervisor: Login | None) -> str | None:
    """Return why JetStream is not ready, or None; a stream that cannot be written only for a supervisor.

    Raises OSError, ValueError for the answer of another server.
    """
    if supervisor is None:
        info = _request(port, "$JS.API.INFO", None)
        return None if info is not None and "error" not in info else NO_ANSWER
    answer = _request(port, "$SYS.REQ.SERVER.PING.HEALTHZ", supervisor)
    if answer is None:
        return NO_ANSWER
    health = answer.get("data", {})
    if health.get("status") == "ok":
        return None
    error = str(health.get("error", "")) or "JetStream is not ready"
    return f"{WRITE_FAULT}: {error}" if "write error" in error else error


def _request(port: int, subject: str, login: Login | None) -> dict[str, Any] | None:
    """Return the answer, or None if there is no service behind the subject."""
    connect: dict[str, object] = {"verbose": False, "no_responders": True, "headers": True}
    if login is not None:
        connect |= {"user": login.user, "pass": login.password}
    with (
        socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS) as connection,
        connection.makefile("rb") as lines,
    ):
        lines.readline()  # INFO
        connection.sendall(
            f"CONNECT {json.dumps(connect)}\r\nSUB {_INBOX} 1\r\nPUB {subject} {_INBOX} 0\r\n\r\n".encode()
        )
        head = lines.readline()
        # HMSG means "no responders": JetStream is not up yet
        if not head.startswith(b"MSG "):
            return None
        found = json.loads(lines.readline())
        return found if isinstance(found, dict) else None
