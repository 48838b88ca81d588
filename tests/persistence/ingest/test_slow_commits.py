"""A commit that takes longer than the statement timeout is repeated in smaller parts."""

from typing import TYPE_CHECKING

from antiphon.chassis.database import Database
from antiphon.persistence.ingest.group_writer import GroupWriter

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest

SLOW_INSERT = """
create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return new; end';
create trigger slow before insert on event_log for each row execute function slow()
"""


async def test_a_batch_that_takes_too_long_is_committed_in_smaller_parts(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_dsn: str,
) -> None:
    """A commit of all events always times out; repeating it would never end."""
    await event_log.pool.execute(SLOW_INSERT)
    slow = await Database.connect(postgres_dsn, statement_timeout_seconds=1.0)
    ingest.database, ingest.writer = slow, GroupWriter(slow)
    session = new_session("slow")
    call = [session.turn(number) for number in range(1, 121)]
    await publish(call)
    ingest.start(session.partition)

    await event_log.until(len(call), seconds=90)
    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert await event_log.dead_letters() == []
    await ingest.until_ready()
    await ingest.end()
    await slow.close()
