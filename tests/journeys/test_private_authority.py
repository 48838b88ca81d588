"""A call by `wss://` with a private authority; the key of LiveKit is rotated, and no service restarts."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.fixtures.certificates import Authority, put
from tests.fixtures.stack_settings import isolated_settings
from tests.fixtures.tls_proxy import TlsProxy
from tests.journeys.json_api import SessionApi

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.settings import LOOPBACK, StackSettings
from antiphon.cli.stack.livekit import Keys, LiveKitServer
from antiphon.cli.stack.livekit_build import find_livekit
from antiphon.cli.stack.process import Command
from antiphon.cli.supervisor.plan import WEBHOOK_PATH

CALL_SECONDS = 120.0
OLD, NEW = Keys.generate(), Keys.generate()


class Server(LiveKitServer):
    """A LiveKit server with several keys, which trusts a bundle when it sends webhooks."""

    accepted: Mapping[str, str] = MappingProxyType({})
    bundle: Path | None = None

    def prepare(self) -> Command:
        """Return its command, with the variable that Go reads."""
        command = super().prepare()
        return replace(command, environment={**command.environment, "SSL_CERT_FILE": str(self.bundle)})

    def _config(self) -> dict[str, object]:
        return {**super()._config(), "keys": dict(self.accepted)}

    def restart(self, *accepted: Keys) -> None:
        """Start it with these keys; the first signs webhooks."""
        self.stop()
        self.keys, self.accepted = accepted[0], {pair.key: pair.secret for pair in accepted}
        self.start()


class Setup:
    """LiveKit behind TLS with a private authority, and a stack that has its keys in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority()
        self.bundle = authority.write(folder / "ca.pem")
        self.cert, self.key = authority.issue(folder, "server")
        self.home = isolated_settings(folder / "stack")
        self.livekit = Server(
            folder / "livekit",
            program=find_livekit(StackSettings().cache, print),
            keys=OLD,
            port=self.home.livekit_port,
            udp_port=self.home.livekit_udp_port,
        )
        self.livekit.accepted, self.livekit.bundle = {OLD.key: OLD.secret}, self.bundle

    def mount(self, *pairs: Keys) -> None:
        """Replace the files with the keys."""
        put(self.folder / "key", "".join(f"{pair.key}\n" for pair in pairs).encode())
        put(self.folder / "secret", "".join(f"{pair.secret}\n" for pair in pairs).encode())


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Setup, EmbeddedStack]]:
    """A running stack that reaches LiveKit by `wss://` only, and LiveKit it by `https://` only."""
    setup = Setup(tmp_path)
    setup.mount(OLD)
    monkeypatch.setenv("SSL_CERT_FILE", str(setup.bundle))
    settings = setup.home
    with (
        TlsProxy(settings.webhooks_port, setup.cert, setup.key) as hooks,
        TlsProxy(setup.livekit.port, setup.cert, setup.key) as front,
    ):
        setup.livekit.webhook_url = f"https://{LOOPBACK}:{hooks.port}{WEBHOOK_PATH}"
        setup.livekit.start()
        try:
            given = settings.model_dump() | {
                "livekit_url": f"wss://{LOOPBACK}:{front.port}",
                "livekit_api_key_file": tmp_path / "key",
                "livekit_api_secret_file": tmp_path / "secret",
            }
            with EmbeddedStack(StackSettings.model_validate(given)) as stack:
                yield setup, stack
        finally:
            setup.livekit.stop()


@pytest.mark.xdist_group("calls")
@pytest.mark.audio
@pytest.mark.livekit
@pytest.mark.slow
async def test_a_call_by_wss_before_and_after_the_key_was_rotated(
    private: tuple[Setup, EmbeddedStack],
) -> None:
    setup, stack = private
    pids = _pids(stack)

    assert await _call(stack) >= {"livekit.room_started", "session.closed"}

    before = _registrations(stack)
    await asyncio.to_thread(setup.livekit.restart, OLD, NEW)
    setup.mount(NEW, OLD)
    await _ready(stack, before)
    assert await _call(stack) >= {"livekit.room_started", "session.closed"}  # webhooks by the old key

    before = _registrations(stack)
    await asyncio.to_thread(setup.livekit.restart, NEW)
    await _ready(stack, before)
    setup.mount(NEW)
    assert await _call(stack) >= {"livekit.room_started", "session.closed"}

    assert _pids(stack) == pids
    for log in (stack.settings.home / "logs").iterdir():
        assert not {pair.secret for pair in (OLD, NEW) if pair.secret in log.read_text(errors="replace")}


def _pids(stack: EmbeddedStack) -> dict[str, int | None]:
    return {service.name: service.pid for service in stack.status().services}


def _registrations(stack: EmbeddedStack) -> int:
    return (stack.settings.home / "logs" / "agent-worker.log").read_text().count("worker.registered")


async def _ready(stack: EmbeddedStack, registrations: int) -> None:
    """Wait until the worker has registered again: the status is some seconds old."""
    async with asyncio.timeout(CALL_SECONDS):
        while _registrations(stack) == registrations or not stack.status().ready:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.2)


def _run(argv: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=CALL_SECONDS, check=False
    )


async def _call(stack: EmbeddedStack) -> set[str]:
    """Make a call as a user does; return the types of the events of its session."""
    where = stack.status().addresses
    assert where.api_key
    called = await asyncio.to_thread(
        _run,
        [str(Path(sys.prefix) / "bin" / "antiphon"), "call", "--flow", "booking", "--say", "goodbye"],
        {**os.environ, "ANTIPHON_API_URL": where.api_url, "ANTIPHON_API_KEY": where.api_key},
    )
    assert called.returncode == 0, called.stdout + called.stderr
    session = next(word for word in called.stdout.split() if word.startswith("ses_"))
    async with SessionApi(where.api_url, where.api_key) as api, asyncio.timeout(CALL_SECONDS):
        return {event["type"] async for event in api.follow(session)}
