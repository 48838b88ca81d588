"""The end of a session's log: its last sequence, whether the session ended, and whether more may follow."""

import asyncpg
from msgspec import Struct

from antiphon.contracts.events.livekit import LiveKitRoomFinished
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.session_api.problems import Problem

LATE_SECONDS = 10.0  # after the terminal event, for the events of a room that nobody reports as finished
ROOM_FINISHED = LiveKitRoomFinished.TYPE

# The log says when an event occurred, not when it was committed: the newest one is closest to that.
LOG_END = """
select
    coalesce(max(sequence), 0) as last,
    coalesce(bool_or(type = any($3::text[])), false) as ended,
    coalesce(bool_or(type = $4), false) as finished,
    coalesce(extract(epoch from now() - max(occurred_at)), 0)::float8 as age
from event_log
where tenant = $1 and session_id = $2
"""
LOG_END_TYPES = (sorted(TERMINAL_TYPES), ROOM_FINISHED)  # its other arguments


class LogEnd(Struct, frozen=True):
    """What is committed of a session; `last` is 0 before its first event is.

    `late_seconds` is how long to wait for late events of a session that has ended: 0 once its room has too.
    """

    last: int
    ended: bool = False
    finished: bool = False
    late_seconds: float = LATE_SECONDS

    @property
    def settled(self) -> bool:
        """Whether no more events are expected."""
        return self.ended and self.late_seconds == 0.0


def log_end_of(row: asyncpg.Record) -> LogEnd:
    """Return the row of LOG_END."""
    late_seconds = max(0.0, min(LATE_SECONDS, LATE_SECONDS - row["age"]))
    if row["ended"] and row["finished"]:
        late_seconds = 0.0
    return LogEnd(row["last"], row["ended"], row["finished"], late_seconds)


def beyond_the_end(session_id: str, after: int, last: int) -> Problem:
    """Return the problem for a position after the last event that is committed."""
    return Problem(
        422,
        "sequence-beyond-end",
        f"There is no event {after}: the last one that is committed is {last}.",
        session_id=session_id,
        last_sequence=last,
    )
