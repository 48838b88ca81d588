"""Real servers, and the services of two releases."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from tests.upgrade.previous import ROOT, path_of, previous_release, unpack
from tests.upgrade.replicas import LOOPBACK, Release

from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.disk import MAX_STORE_BYTES
from antiphon.cli.stack.livekit import Keys, LiveKitServer
from antiphon.cli.stack.livekit_build import find_livekit
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.postgres import Postgres

API_KEY = "the-key-of-the-operator-of-this-test"
STREAM_MAX_BYTES = str(256 << 20)
DELAY_SECONDS = 3.0  # of our servers after SIGTERM; the balancer looks each half second


@pytest.fixture(scope="session")
def previous_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the release before."""
    return unpack(previous_release(), tmp_path_factory.mktemp("previous"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server with nothing in it."""
    server = NatsServer(tmp_path / "nats", max_store_bytes=MAX_STORE_BYTES)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def new_dsn(postgres_server: Postgres) -> str:
    """The address of a database with nothing in it."""
    name = f"upgrade_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_server.dsn_of("postgres"))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return postgres_server.dsn_of(name)


@pytest.fixture
def webhooks_port() -> int:
    """Where LiveKit sends its webhooks."""
    return free_port()


@pytest.fixture
async def livekit(tmp_path: Path, webhooks_port: int) -> AsyncIterator[LiveKitServer]:
    """A LiveKit server."""
    program = await asyncio.to_thread(find_livekit, StackSettings().cache, print)
    server = LiveKitServer(
        tmp_path / "livekit",
        program=program,
        keys=Keys.generate(),
        webhook_url=f"http://{LOOPBACK}:{webhooks_port}/api/v1/webhooks/livekit",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def variables(broker: NatsServer, new_dsn: str, livekit: LiveKitServer, tmp_path: Path) -> dict[str, str]:
    """The settings of all services, of both releases."""
    return {
        "ANTIPHON_NATS_URL": broker.url,
        "ANTIPHON_POSTGRES_DSN": new_dsn,
        "ANTIPHON_STREAM_MAX_BYTES": STREAM_MAX_BYTES,
        "ANTIPHON_BOOTSTRAP_API_KEY": API_KEY,
        "ANTIPHON_JOURNAL_DIR": str(tmp_path / "journal"),
        "ANTIPHON_SHUTDOWN_DELAY_SECONDS": str(DELAY_SECONDS),
        "ANTIPHON_AGENT_LOAD_THRESHOLD": "inf",
        "ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS": "300",
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.keys.key,
        "LIVEKIT_API_SECRET": livekit.keys.secret,
    }


@pytest.fixture
async def previous(previous_tree: Path, variables: dict[str, str], tmp_path: Path) -> AsyncIterator[Release]:
    """The services of the release before."""
    release = Release("previous", path_of(previous_tree), tmp_path, variables)
    yield release
    await release.kill()


@pytest.fixture
async def present(variables: dict[str, str], tmp_path: Path) -> AsyncIterator[Release]:
    """The services of this version."""
    release = Release("present", path_of(ROOT), tmp_path, variables)
    yield release
    await release.kill()
