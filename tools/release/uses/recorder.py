"""Write an event to the outbox of a job while no broker answers: it is in the journal."""

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from antiphon.chassis.bus import Bus
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.ids import named_session_id
from antiphon.recorder import record
from antiphon.recorder.outbox import BusLink, Outbox


def written(folder: Path) -> list[bytes]:
    """Return what the journals of a folder hold."""
    return [path.read_bytes() for path in folder.glob("AJ_release*")]


async def main() -> None:
    """Write one event, and close without waiting for the broker."""
    assert callable(record)
    link = BusLink(partial(Bus.connect, "nats://127.0.0.1:1", name="recorder"))
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder), link, job_id="AJ_release")
        outbox.start()
        writer = outbox.writer(named_session_id("default", "release"), "default")
        writer.write(AgentStateChanged(old_state="listening", new_state="thinking"))
        assert not await outbox.close(0.2)  # nothing was acknowledged
        await link.close()
        assert b"thinking" in b"".join(written(Path(folder)))
    print("an event is in the journal of a job without a broker")


asyncio.run(main())
