import os
import socket

import pytest

from antiphon.cli.stack.ports import PortTaken, PortUse, free_ports, is_free, require_free


def test_error_names_the_port_its_owner_and_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(PortTaken) as raised:
            require_free(PortUse(port, "session-api", "ANTIPHON_API_PORT"))

    message = str(raised.value)
    assert f"port {port} for session-api is taken by process {os.getpid()}" in message
    assert "ANTIPHON_API_PORT" in message


def test_taken_udp_port_raises() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        use = PortUse(
            server.getsockname()[1], "LiveKit media", "ANTIPHON_LIVEKIT_UDP_PORT", socket.SOCK_DGRAM
        )

        with pytest.raises(PortTaken, match=str(os.getpid())):
            require_free(use)


def test_server_on_all_interfaces_takes_the_loopback_port() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)
