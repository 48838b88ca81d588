"""The connection that holds the locks of all leases of this process; when it breaks, all are lost."""

import asyncio
import os
import socket
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import structlog

from antiphon.chassis.postgres import connect
from antiphon.chassis.retry import retrying
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.errors import POSTGRES_ERRORS, NotReady
from antiphon.persistence.leases import locks
from antiphon.persistence.leases.group import LeaseGroup
from antiphon.persistence.leases.locks import CHANNEL, Change, lease_name, member_name
from antiphon.persistence.metrics import leases_held
from antiphon.persistence.readiness import STARTING

if TYPE_CHECKING:
    from antiphon.persistence.leases.locks import Connection

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5  # between heartbeats; a replica that was killed tells nobody
SETTLE_SECONDS = 0.01  # after a change, for others that follow at once
SESSION_SECONDS = 4.0  # without a heartbeat, then Postgres ends the session


class Leases:
    """The leases of this process: its groups, and the heartbeat that takes and gives up for all of them.

    At rest a heartbeat is one statement. A connection that is not used for `session_seconds`, because the
    process hangs or is cut off, is ended by Postgres, and its leases go to the others.
    """

    def __init__(self, dsn: str, *, session_seconds: float = SESSION_SECONDS) -> None:
        self._dsn = dsn
        self._session_seconds = session_seconds
        self._groups: dict[str, LeaseGroup] = {}
        self._joined: set[str] = set()  # groups, on this connection
        self._keys: dict[str, int] = {}
        self._pid = 0
        self._sessions: dict[int, str] = {}  # of other replicas
        self._changed = asyncio.Event()
        self._failure: str | None = STARTING

    def join(self, group: str, partitions: int = PARTITIONS) -> LeaseGroup:
        """Join a group; this replica takes its share from now on.

        Raises ValueError if it is a member.
        """
        if group in self._groups:
            raise ValueError(f"this process is already a member of group {group}")
        joined = self._groups[group] = LeaseGroup(group, partitions, self._changed)
        self._changed.set()
        return joined

    @property
    def connected(self) -> bool:
        """Whether the connection is there, without which nothing is held."""
        return self._failure is None

    async def check(self) -> str:
        """Return which leases this process holds, and who holds the others.

        Raises NotReady while there is no connection.
        """
        if self._failure is not None:
            raise NotReady(f"the connection of the leases {self._failure}")
        return "; ".join(group.describe(self._pid, self._sessions) for group in self._groups.values())

    async def run(self) -> None:
        """Hold the connection and the leases until cancelled."""
        await retrying(*POSTGRES_ERRORS, longest_seconds=POLL_SECONDS)(self._hold_connection)

    async def _hold_connection(self) -> None:
        connection = None
        try:
            connection = await self._connect()
            while True:
                self._changed.clear()
                await self._heartbeat(connection)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()
                        await asyncio.sleep(SETTLE_SECONDS)
        except POSTGRES_ERRORS as error:
            if self._failure in (None, STARTING):
                log.warning("leases.connection_lost", error=repr(error))
            self._failure = f"is lost: {error!r}"
            raise
        finally:
            if connection is not None:
                connection.terminate()  # releases every lock at once
            self._lose_all()

    async def _connect(self) -> "Connection":
        connection = await connect(
            self._dsn,
            name=f"persistence leases {socket.gethostname()}:{os.getpid()}",
            # A replica that is cut off gives its leases up before Postgres gives them to another.
            statement_seconds=self._session_seconds / 2,
            client_margin_seconds=0.0,
            idle_session_timeout=str(int(self._session_seconds * 1000)),
        )
        connection.add_termination_listener(lambda _: self._changed.set())
        self._pid = connection.get_server_pid()
        await connection.add_listener(CHANNEL, self._on_notice)
        return connection

    def _on_notice(self, _: object, pid: int, channel: str, payload: object) -> None:
        if pid != self._pid:
            self._changed.set()

    async def _heartbeat(self, connection: "Connection") -> None:
        groups = list(self._groups.values())
        await self._read_keys(connection, groups)
        await self._join_and_release(connection, groups)
        await self._share(connection, [group for group in groups if group.name in self._joined])
        others = {pid for group in groups for pid in group.others(self._pid)}
        self._sessions = {pid: name for pid, name in self._sessions.items() if pid in others}
        if unknown := others - self._sessions.keys():
            self._sessions |= await locks.sessions(connection, unknown)
        for group in self._groups.values():
            leases_held.set(group.number_held, group.name)
        if self._failure not in (None, STARTING):
            log.info("leases.connection_restored")
        self._failure = None

    async def _read_keys(self, connection: "Connection", groups: list[LeaseGroup]) -> None:
        names = {name for group in groups for name in (member_name(group.name), *_lease_names(group))}
        if unknown := names - self._keys.keys():
            self._keys |= await locks.keys(connection, unknown)

    async def _join_and_release(self, connection: "Connection", groups: list[LeaseGroup]) -> None:
        released: list[int] = []
        for group in groups:
            partitions, group.released = group.released, []
            released += [self._keys[lease_name(group.name, partition)] for partition in partitions]
        left = [group for group in groups if group.leaving and group.idle()]
        quitting = {group.name for group in groups if group.leaving} & self._joined
        joining = {group.name for group in groups if not group.leaving} - self._joined
        if released or quitting or joining:
            quit_, join = ([self._keys[member_name(name)] for name in each] for each in (quitting, joining))
            await locks.change(connection, Change(release=released, quit=quit_, join=join))
            self._joined = (self._joined - quitting) | joining
        for group in left:
            log.info("leases.left", group=group.name)
            self._forget(group)

    async def _share(self, connection: "Connection", groups: list[LeaseGroup]) -> None:
        keys = {group.name: [self._keys[name] for name in _lease_names(group)] for group in groups}
        members = {group.name: self._keys[member_name(group.name)] for group in groups}
        found = await locks.look(connection, [*members.values(), *chain.from_iterable(keys.values())])
        wanted: dict[int, tuple[LeaseGroup, int]] = {}
        for group in groups:
            holders = {p: found[key][0] for p, key in enumerate(keys[group.name]) if key in found}
            for partition in group.observe(self._pid, found.get(members[group.name], []), holders):
                wanted[keys[group.name][partition]] = group, partition
        if not wanted:
            return
        taken = [wanted[key] for key in await locks.change(connection, Change(take=list(wanted)))]
        for group in {group for group, _ in wanted.values()}:
            group.taken(self._pid, [partition for owner, partition in taken if owner is group])

    def _forget(self, group: LeaseGroup) -> None:
        del self._groups[group.name]
        leases_held.remove(group.name)  # what it says last would stay: of a view's earlier version
        group.left.set()

    def _lose_all(self) -> None:
        self._joined.clear()
        for group in list(self._groups.values()):
            group.lose_all()
            leases_held.set(0, group.name)
            if group.leaving:
                self._forget(group)


def _lease_names(group: LeaseGroup) -> list[str]:
    return [lease_name(group.name, partition) for partition in range(group.partitions)]
