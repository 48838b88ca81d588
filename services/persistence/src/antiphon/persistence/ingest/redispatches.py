"""Count what is new in the log, and the agents that joined a session in which one had joined before."""

from collections import OrderedDict
from collections.abc import Sequence

import structlog

from antiphon.chassis.database import Database
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.session import SessionAdopted, SessionRequested
from antiphon.persistence import metrics
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.ingest.call_metrics import measure
from antiphon.persistence.ingest.group_writer import Sequences
from antiphon.persistence.ingest.validate import ValidEvent

log = structlog.get_logger(__name__)

REMEMBERED = 2_000  # sessions of a partition; of others the log is asked

_EARLIER = """
select count(*) from unnest($1::text[], $2::int[]) as joined (session_id, sequence)
 where exists (select from event_log as earlier
                where earlier.session_id = joined.session_id and earlier.sequence < joined.sequence
                  and earlier.type = 'agent.joined')
"""


class NewEvents:
    """The events of a partition as they are committed: what they count for, and who had joined when."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._joined: OrderedDict[str, bool] = OrderedDict()  # sessions whose beginning was seen here
        self._unknown: list[tuple[str, int]] = []  # agents that joined other sessions: session, sequence

    async def count(self, events: Sequence[ValidEvent], sequences: Sequences) -> None:
        """Count those of the events that are new; `sequences` has the positions of the new ones."""
        stored = len(sequences)
        metrics.ingested.add(stored, "stored")
        metrics.ingested.add(len(events) - stored, "duplicate")
        for valid in events:
            if valid.event is None or (sequence := sequences.get(valid.incoming.position)) is None:
                continue
            measure(valid.event)
            if isinstance(valid.event, AgentJoined):
                self._agent_joined(valid.envelope.subject, sequence)
            elif isinstance(valid.event, SessionRequested | SessionAdopted):
                self._remember(valid.envelope.subject, joined=False)
        if self._unknown:
            await self._ask_the_log()

    def _agent_joined(self, session_id: str, sequence: int) -> None:
        before = self._joined.get(session_id)
        if before is None:
            self._unknown.append((session_id, sequence))
        elif before:
            metrics.agents_redispatched.add()
        self._remember(session_id, joined=True)

    def _remember(self, session_id: str, *, joined: bool) -> None:
        self._joined[session_id] = joined
        self._joined.move_to_end(session_id)
        if len(self._joined) > REMEMBERED:
            self._joined.popitem(last=False)

    async def _ask_the_log(self) -> None:
        unknown, self._unknown = self._unknown, []
        sessions, sequences = zip(*unknown, strict=True)
        try:
            found = await self._database.pool.fetchval(_EARLIER, sessions, sequences)
        except POSTGRES_ERRORS as error:  # they are committed: no reason to stop the partition
            log.warning("ingest.redispatches_not_counted", agents=len(unknown), error=repr(error))
            return
        metrics.agents_redispatched.add(found)
