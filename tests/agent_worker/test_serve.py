"""The worker's own process, without LiveKit: its health and its background tasks."""

import asyncio
from pathlib import Path

import httpx
import pytest

from antiphon.agent_worker import worker
from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.bus import Bus
from antiphon.chassis.deployment import deployment_of
from antiphon.chassis.settings import load
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.deployment import IDENTITY_KEY
from antiphon.recorder.outbox import Orphans

ANSWER_SECONDS = 60.0


class FailingOrphans(Orphans):
    """Journals that cannot be looked for."""

    failing = True

    async def run(self) -> None:
        """Fail, until `failing` is unset."""
        if FailingOrphans.failing:
            raise OSError("no such disk")
        await super().run()


@pytest.fixture
def port(nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The port of a worker's health routes, with settings in the environment."""
    port = free_port()
    for name, value in {
        "LIVEKIT_URL": f"ws://127.0.0.1:{free_port()}",
        "LIVEKIT_API_KEY": "key",
        "LIVEKIT_API_SECRET": "secret" * 6,
        "ANTIPHON_NATS_URL": nats_server.url,
        "ANTIPHON_JOURNAL_DIR": str(tmp_path / "journals"),
        "ANTIPHON_AGENT_HEALTH_PORT": str(port),
        "ANTIPHON_AGENT_IDLE_PROCESSES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return port


async def test_failing_adoption_makes_the_worker_unready_and_ends_no_call(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "Orphans", FailingOrphans)
    monkeypatch.setattr(FailingOrphans, "failing", True)
    stop = asyncio.Event()
    serving = asyncio.create_task(worker.serve(load(AgentSettings), stop))

    await _journals_report(serving, port, "orphans fails: OSError('no such disk')")
    monkeypatch.setattr(FailingOrphans, "failing", False)
    await _journals_report(serving, port, "")
    stop.set()
    await asyncio.wait_for(serving, ANSWER_SECONDS)


async def test_a_folder_that_cannot_be_written_makes_the_worker_unready(port: int, tmp_path: Path) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(worker.serve(load(AgentSettings), stop))
    folder = tmp_path / "journals"

    await _journals_report(serving, port, "")
    folder.rmdir()
    folder.write_text("no folder")
    await _journals_report(
        serving, port, f"ANTIPHON_JOURNAL_DIR is '{folder}': it cannot be written (File exists)"
    )
    folder.unlink()
    await _journals_report(serving, port, "")
    stop.set()
    await asyncio.wait_for(serving, ANSWER_SECONDS)


@pytest.mark.parametrize("inside", ["", "more"])
async def test_the_worker_does_not_start_without_a_folder_for_journals(
    inside: str,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANTIPHON_JOURNAL_DIR", str(tmp_path / "file" / inside))
    settings = load(AgentSettings)

    with pytest.raises(SystemExit) as ended:
        await worker.serve(settings, asyncio.Event())

    assert ended.value.code == 2
    assert f"ANTIPHON_JOURNAL_DIR is '{settings.journal_dir}': it cannot be" in capsys.readouterr().err


async def _journals_report(serving: asyncio.Task[None], port: int, expected: str) -> None:
    await _reports(serving, port, "journals", expected)


async def _reports(serving: asyncio.Task[None], port: int, check: str, expected: str) -> None:
    async with asyncio.timeout(ANSWER_SECONDS), httpx.AsyncClient() as client:
        while True:
            assert not serving.done(), serving
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready", timeout=5)
                if answer.json()["checks"].get(check, {}).get("detail") == expected:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def test_a_worker_waits_for_the_broker_and_says_so(port: int, nats_server: NatsServer) -> None:
    nats_server.stop()
    stop = asyncio.Event()
    serving = asyncio.create_task(worker.serve(load(AgentSettings), stop))

    await _reports(serving, port, "livekit", "waiting for the broker, which has the name of the agent")
    nats_server.start()
    bus = await Bus.connect(nats_server.url, name="test")
    await bus.ensure()
    await _reports(serving, port, "livekit", "not registered with LiveKit")  # there is none
    await bus.close()
    stop.set()
    await asyncio.wait_for(serving, ANSWER_SECONDS)


async def test_a_worker_with_the_identity_of_before_is_unready(port: int, bus: Bus) -> None:
    stop = asyncio.Event()
    held = await deployment_of(bus)
    serving = asyncio.create_task(worker.serve(load(AgentSettings), stop))
    await _reports(serving, port, "deployment", "")

    await (await bus.bucket("deployment")).delete(IDENTITY_KEY)
    made = await deployment_of(bus)

    changed = f"the identity of the deployment changed from {held.id} to {made.id}: restart every service"
    await _reports(serving, port, "deployment", changed)
    stop.set()
    await asyncio.wait_for(serving, ANSWER_SECONDS)
