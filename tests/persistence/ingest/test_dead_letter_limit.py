"""A partition that only finds dead letters stops; a restart goes on."""

from typing import TYPE_CHECKING

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.persistence.ingest.partition import IngestOptions

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, RunningIngest


async def test_a_restart_continues_after_the_dead_letters_that_stopped_the_partition(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """The count starts again: each restart of a partition that goes on failing costs one more run of them."""
    session = new_session("stopped twice")
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    ingest.options = IngestOptions(dead_letters_in_a_row=5)
    for number in range(8):
        await bus.publish(Outgoing(subject, b"wrong", f"raw {number}"))
    await publish([session.requested()])
    ingest.start(session.partition)
    await eventually(lambda: ingest.is_unready_because("stopped"))
    await ingest.end()

    ingest.restart(session.partition)
    await event_log.until(1)

    await ingest.until_ready()
    assert len(await event_log.dead_letters()) == 8
