"""The errors of persistence, and which errors of Postgres are retried."""

from collections.abc import Sequence

import asyncpg

from antiphon.chassis.database import TRANSIENT, DatabaseUnavailable
from antiphon.chassis.pool import PoolExhausted

FENCED = "AP001"  # the SQLSTATE that our SQL functions raise when they find another writer
INVALID = ("22", "54", "23")  # classes of SQLSTATE: bad values, program limits, violated constraints
POSITION_TAKEN = "23505"  # a unique violation: another writer, not invalid data

# Retried without limit: they are temporary, or an operator must act, unless `classify` says otherwise.
POSTGRES_ERRORS: tuple[type[Exception], ...] = (asyncpg.PostgresError, *TRANSIENT)


class Fenced(Exception):
    """Another writer has taken over the partition or the projection; `partitions` are empty if not known."""

    def __init__(self, message: str, partitions: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.partitions = partitions


class Poisoned(Exception):
    """A batch contains a value that Postgres can never store."""


class CommitTimedOut(Exception):
    """A commit of several messages took too long, and nothing of it was committed: commit fewer at once."""


class TooManyDeadLetters(Exception):
    """So many dead letters in a row point to a bug or a misconfiguration: an operator must check."""


class NotReady(Exception):
    """A part of the process cannot do its work now."""


def classify(error: Exception) -> Exception:
    """Return Fenced or Poisoned if that is what an error of Postgres means; otherwise the error itself."""
    state = error.sqlstate or "" if isinstance(error, asyncpg.PostgresError) else ""
    if state == FENCED:
        return Fenced(str(error))
    if state.startswith(INVALID) and state != POSITION_TAKEN:
        return Poisoned(f"{type(error).__name__}: {error}")
    return error


def is_caused_by_values(error: Exception) -> bool:
    """Return whether an error comes from what is written, or from our own code: trying again may not help."""
    from antiphon.chassis.bus import BusError  # NATS takes long to import, and few commands need it

    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(INVALID)
    return not isinstance(error, (DatabaseUnavailable, BusError, *TRANSIENT))


def is_timeout(error: BaseException) -> bool:
    """Return whether Postgres, or we, gave up on a statement because of the time that it took."""
    if isinstance(error, PoolExhausted):
        return False  # it was not sent
    return isinstance(error, (TimeoutError, asyncpg.QueryCanceledError))
