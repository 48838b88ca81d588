import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from antiphon.chassis.settings import http_url
from antiphon.cli.errors import StackError
from antiphon.cli.stack.livekit import Keys, LiveKitServer, accepts_keys, client_of


@pytest.fixture
def server(tmp_path: Path, livekit_program: Path) -> Iterator[LiveKitServer]:
    server = LiveKitServer(tmp_path / "livekit", program=livekit_program, keys=Keys.generate())
    yield server
    server.kill()


def test_only_loopback_is_bound_with_tcp_and_udp(server: LiveKitServer) -> None:
    server.start()

    assert server.process is not None
    sockets = psutil.Process(server.process.pid).net_connections(kind="inet")
    bound = {(s.laddr.ip, s.laddr.port) for s in sockets if s.status in ("LISTEN", "NONE")}
    assert bound == {("127.0.0.1", server.port), ("127.0.0.1", server.udp_port)}


def test_other_keys_are_refused(server: LiveKitServer) -> None:
    server.start()

    assert accepts_keys(client_of(server.url), server.keys)
    assert not accepts_keys(client_of(server.url), Keys.generate())


def test_stop_exits_with_code_0(server: LiveKitServer) -> None:
    server.start()
    server.stop()

    assert server.process is not None
    assert server.process.returncode == 0


def test_start_after_sigkill(server: LiveKitServer) -> None:
    server.start()
    server.kill()
    server.start()

    assert server.ready()


def test_configuration_is_private_and_its_secret_is_long(server: LiveKitServer) -> None:
    server.prepare()

    path = server.directory / "livekit.yaml"
    config = yaml.safe_load(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(config["keys"][server.keys.key]) >= 32


def test_webhooks_outlast_a_restart_of_the_receiver(tmp_path: Path, livekit_program: Path) -> None:
    url = "http://127.0.0.1:1/hook"
    server = LiveKitServer(tmp_path, program=livekit_program, keys=Keys.generate(), webhook_url=url)

    server.start()  # it refuses unknown keys in its configuration
    server.stop()

    webhook = yaml.safe_load((tmp_path / "livekit.yaml").read_text())["webhook"]
    assert webhook["urls"] == [url]
    assert webhook["resource_url_notifier"] == {"max_age": "5m", "max_depth": 10000}


def test_failed_start_has_the_end_of_the_log(tmp_path: Path, livekit_program: Path) -> None:
    taken = LiveKitServer(tmp_path / "one", program=livekit_program, keys=Keys.generate())
    taken.start()
    late = LiveKitServer(tmp_path / "two", program=livekit_program, keys=Keys.generate(), port=taken.port)

    with pytest.raises(StackError, match=r"LiveKit ended with code 0(.|\n)*address already in use"):
        late.start()
    taken.stop()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://127.0.0.1:7880", "http://127.0.0.1:7880"),
        ("wss://livekit.aws.example", "https://livekit.aws.example"),
        ("https://livekit.aws.example/ws", "https://livekit.aws.example/ws"),
        ("http://news.example:80", "http://news.example:80"),
    ],
)
def test_only_the_scheme_of_an_address_is_rewritten(url: str, address: str) -> None:
    assert http_url(url) == address
