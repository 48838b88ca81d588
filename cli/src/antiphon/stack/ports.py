import socket
from dataclasses import dataclass

import psutil

from antiphon.errors import PortTaken

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port."""

    pid: int
    name: str
    command: str


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a loopback port that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a server could bind this loopback port now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            # a port in TIME_WAIT is free for a server, as every server here sets the same option
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def owner_of(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> Owner | None:
    """Return who holds the port, or None when the system does not tell us."""
    family = "tcp" if kind is socket.SOCK_STREAM else "udp"
    try:
        connections = psutil.net_connections(kind=family)
    except psutil.AccessDenied:
        return None
    for connection in connections:
        listens = connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
        if listens and connection.laddr and connection.laddr.port == port and connection.pid:
            return _describe(connection.pid)
    return None


def _describe(pid: int) -> Owner | None:
    try:
        process = psutil.Process(pid)
        return Owner(pid, process.name(), " ".join(process.cmdline())[:160])
    except psutil.Error:
        return None


def require_free(port: int, what: str, setting: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Raise PortTaken, naming the port, its owner and the setting that moves it, when the port is taken."""
    if is_free(port, kind):
        return
    owner = owner_of(port, kind)
    holder = (
        f"process {owner.pid} ({owner.name}: {owner.command})"
        if owner
        else "a process that this user may not see"
    )
    raise PortTaken(
        f"port {port} for {what} is taken by {holder}. Stop it, or choose another port with {setting}."
    )
