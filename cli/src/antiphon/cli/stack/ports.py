import socket
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from antiphon.cli.errors import PortTaken

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port."""

    pid: int
    name: str
    command: str


def free_port() -> int:
    """Return a loopback port that nobody uses at this moment, neither with TCP nor with UDP."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that nobody uses at this moment, neither with TCP nor with UDP."""
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            tcp.bind((LOOPBACK, 0))
            port = int(tcp.getsockname()[1])
            if is_free(port, socket.SOCK_DGRAM):
                found.append(port)
        return found


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


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that a server of the stack will bind."""

    number: int
    what: str
    setting: str  # the variable that moves it
    kind: socket.SocketKind = socket.SOCK_STREAM


def require_free(use: PortUse) -> None:
    """Raise PortTaken, naming the port, its owner and the setting that moves it, when the port is taken."""
    if is_free(use.number, use.kind):
        return
    owner = owner_of(use.number, use.kind)
    holder = f"process {owner.pid} ({owner.name}: {owner.command})" if owner else "a process of another user"
    raise PortTaken(
        f"port {use.number} for {use.what} is taken by {holder}.\n"
        f"Stop it, or choose another port with {use.setting}."
    )
