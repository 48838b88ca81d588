"""Connections to Postgres: each has a name, time limits on both sides, and keepalives.

The names and limits that the DSN itself sets win over these.
"""

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg

from antiphon.chassis.postgres_dsn import DSN, current_dsn
from antiphon.chassis.postgres_tls import naming_files

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CONNECT_SECONDS = 5.0  # per attempt
STATEMENT_SECONDS = 30.0  # then the server cancels it
CLIENT_MARGIN_SECONDS = 5.0  # after the server's limit, a server that did not answer counts as gone
NAME_BYTES = 63  # the longest application_name

# An idle peer that is gone is detected within 5 s, unanswered data within 10 s. Both sides watch: the server
# releases the locks of a machine that is gone, the client notices a server that is.
KEEPALIVE_IDLE_SECONDS = 2
KEEPALIVE_INTERVAL_SECONDS = 1
KEEPALIVE_COUNT = 3
UNANSWERED_MILLISECONDS = 10_000


def server_settings(dsn: str, name: str, statement_seconds: float, **more: str) -> dict[str, str]:
    """Return the settings that a connection starts with; `more` adds to them."""
    milliseconds = str(max(1, round(statement_seconds * 1000)))  # 0 would be no limit
    settings = {
        "application_name": name.encode()[:NAME_BYTES].decode(errors="ignore"),
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,  # a hung client releases its row locks
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_SECONDS),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_SECONDS),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": str(UNANSWERED_MILLISECONDS),
        **more,
    }
    given = parse_qs(urlsplit(dsn).query, keep_blank_values=True)
    return {key: value for key, value in settings.items() if key not in given}


async def connect(
    dsn: str,
    *,
    name: str,
    connect_seconds: float = CONNECT_SECONDS,
    statement_seconds: float = STATEMENT_SECONDS,
    client_margin_seconds: float = CLIENT_MARGIN_SECONDS,
    **more: str,
) -> "Connection":
    """Open one connection outside a pool; `more` are settings of the server.

    Raises what asyncpg raises, and UnusableDsnFile or UnusableTlsFile, which are OSErrors.
    """
    dsn = current_dsn(dsn)
    with naming_files(dsn):
        connection: Connection = await asyncpg.connect(
            dsn,
            timeout=connect_seconds,
            command_timeout=statement_seconds + client_margin_seconds,
            server_settings=server_settings(dsn, name, statement_seconds, **more),
        )
    await keep_alive(connection)
    return connection


async def keep_alive(connection: "Connection") -> None:
    """Detect a server that is gone; for asyncpg's `init`."""
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", UNANSWERED_MILLISECONDS),
    ):
        if hasattr(socket, option):  # macOS has other names
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def advice(error: BaseException) -> str:
    """Return what to check after an error of the connection; "" when no setting is to blame."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f" (check sslrootcert in {DSN}, and that the certificate is for its host)"
    if isinstance(error, ConnectionError) and "SSL upgrade" in str(error):
        return f" (the server offers no TLS, which sslmode in {DSN} requires)"
    if isinstance(error, ssl.SSLError):
        return f" (check sslcert and sslkey in {DSN})"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f" (check user, password, sslcert and sslmode in {DSN})"
    return ""
