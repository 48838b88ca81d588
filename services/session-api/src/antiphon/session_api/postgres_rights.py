"""Whether the role of Postgres may read what this service reads."""

import asyncio
from collections.abc import Collection, Mapping
from types import MappingProxyType

import structlog

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
from antiphon.chassis.health import CHECK_DEADLINE_SECONDS
from antiphon.chassis.rights import lacking, missing_rights

log = structlog.get_logger(__name__)

LOOK_SECONDS = CHECK_DEADLINE_SECONDS / 2  # a Postgres that does not answer makes no replica unready

_SELECT = ("select",)
NEEDED: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "event_log": _SELECT,
        "checkpoints": _SELECT,
        "erased_sessions": _SELECT,
        "sessions": _SELECT,
        "turns": _SELECT,
        "timeline": _SELECT,
        "usage": _SELECT,
        "daily": _SELECT,
    }
)


class RightsMissing(Exception):
    """The role may not read what this service reads; the message says what to do."""


class PostgresRights:
    """The readiness of the role: once it has all rights, it is not looked at again.

    A replica that lacks some leaves the requests to those that have them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._complete = False
        self._logged = ""

    async def check(self) -> str:
        """Return what is known, for `Health.add`: without Postgres nothing is.

        Raises RightsMissing, and logs it when it is new.
        """
        if self._complete:
            return ""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                with translate_errors():
                    async with self._database.pool.acquire() as connection:
                        missing = await missing_rights(connection, NEEDED)
                        user = str(await connection.fetchval("select current_user"))
        except (DatabaseUnavailable, TimeoutError):
            return "unknown while Postgres is unavailable"
        if missing:
            problem = lacking(user, missing, "reader")
            if problem != self._logged:
                log.warning("postgres.rights_missing", role=user, missing=missing)
                self._logged = problem
            raise RightsMissing(problem)
        self._complete = True
        return ""
