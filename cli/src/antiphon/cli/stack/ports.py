import socket
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from antiphon.cli.errors import StackError
from antiphon.cli.settings import LOOPBACK


class PortTaken(StackError):
    """A port that the stack needs is used by another process."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port."""

    pid: int
    name: str
    command: str


def free_port() -> int:
    """Return a loopback port that is free at this moment for TCP and UDP."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that are free at this moment for TCP and UDP."""
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
    """Return whether a server can bind this loopback port now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            # as our servers do: a port in TIME_WAIT is free for them
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def owner_of(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> Owner | None:
    """Return the process that listens on the port; None if it belongs to another user."""
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
    """A port that a server of the stack binds."""

    number: int
    what: str
    setting: str  # the variable that changes it
    kind: socket.SocketKind = socket.SOCK_STREAM


def require_free(use: PortUse) -> None:
    """Raise PortTaken if the port is in use, with its owner and the setting that changes it."""
    if is_free(use.number, use.kind):
        return
    owner = owner_of(use.number, use.kind)
    holder = f"process {owner.pid} ({owner.name}: {owner.command})" if owner else "a process of another user"
    raise PortTaken(
        f"port {use.number} for {use.what} is taken by {holder}.\n"
        f"Stop it, or choose another port with {use.setting}."
    )


def require_address(host: str, setting: str) -> None:
    """Raise StackError if no server can bind this host name or address on this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except (OSError, UnicodeError) as error:
            raise StackError(f"{setting} is {host!r}: not an address of this machine ({error})") from error
