"""The canary: a known good event that takes the way of all others, up to a commit that is rolled back.

If it is refused, what refuses events is not in them: the fault is in this process or its database.
"""

from datetime import UTC, datetime
from itertools import count

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import DEFAULT_TENANT, named_session_id
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.errors import Poisoned, classify
from antiphon.persistence.ingest.group_writer import PendingCommit, write
from antiphon.persistence.ingest.stream_check import identity_of
from antiphon.persistence.ingest.validate import DeadLetter, ValidEvent, validate

PRODUCER = "persistence"


async def refusal(database: Database, partition: int, epoch: int, position: int) -> str | None:
    """Return why a known good event is refused after a position of a partition, or None; store nothing.

    Raises Fenced, and any of POSTGRES_ERRORS.
    """
    now = datetime.now(UTC)
    events: list[ValidEvent] = []
    try:
        for number, envelope in enumerate(_envelopes(partition, now), start=1):
            out = outgoing(envelope)
            validated = validate(
                Incoming(out.subject, out.payload, position + number, number, None, now), partition
            )
            if isinstance(validated, DeadLetter):
                return validated.error
            events.append(validated)
    except Exception as error:  # noqa: BLE001 - the bug that it looks for
        return repr(error)
    reached = position + len(events)
    pending = PendingCommit(partition, epoch, position, reached, events, [], identity_of(events[-1]))
    try:
        await _commit_and_roll_back(database, pending)
    except Exception as error:
        cause = classify(error)
        if isinstance(cause, Poisoned):
            return str(cause)
        raise cause from error
    return None


async def _commit_and_roll_back(database: Database, pending: PendingCommit) -> None:
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("set constraints all immediate")  # else they are checked at a commit
            await write(connection, [pending])
        finally:
            if not connection.is_closed():
                await transaction.rollback()


def _envelopes(partition: int, now: datetime) -> list[Envelope]:
    ids = (named_session_id(DEFAULT_TENANT, f"canary {number}") for number in count())
    session_id = next(found for found in ids if partition_of(found) == partition)
    return [
        seal(
            event,
            id=f"{session_id}:canary:{number}",
            session_id=session_id,
            tenant=DEFAULT_TENANT,
            producer=PRODUCER,
            producerseq=number,
            time=now,
        )
        for number, event in enumerate(
            (
                SessionRequested(flow_id="canary", flow_revision=1, user_id="canary", room=session_id),
                TurnSaved(turn=1, agent_id="canary", user_text="Hello?", assistant_text="Hello."),
            )
        )
    ]
