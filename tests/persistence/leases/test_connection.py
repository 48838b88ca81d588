"""Leases on a real Postgres: fair shares, taken over when a replica is gone, lost with the connection."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.errors import NotReady
from antiphon.persistence.leases import connection, locks
from antiphon.persistence.leases.connection import Leases
from antiphon.persistence.leases.locks import holders, lease_name
from antiphon.persistence.metrics import leases_held

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually
    from tests.persistence.leases.conftest import Holder, NewHolder

    Admin = asyncpg.Connection[asyncpg.Record]

ALL = set(range(16))
CUT = """
select pg_terminate_backend(pid) from pg_locks
 where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
   and objsubid = 1
"""


async def shared(
    eventually: "Eventually", replicas: Sequence["Holder"], *sizes: int, group: str = "work"
) -> None:
    """Wait until the replicas hold all partitions, none twice, in shares of these sizes."""

    async def settled() -> bool:
        held = [replica.held[group] for replica in replicas]
        total = sorted(partition for each in held for partition in each)
        return total == list(range(sum(sizes))) and sorted(map(len, held)) == sorted(sizes)

    await eventually(settled)


async def test_one_replica_holds_all(holder: "NewHolder", eventually: "Eventually") -> None:
    await shared(eventually, [holder()], 16)


async def test_replicas_that_join_and_leave_get_fair_shares_and_the_rest_stays(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    first = holder()
    await shared(eventually, [first], 16)
    second = holder()
    await shared(eventually, [first, second], 8, 8)
    assert first.ended["work"].__len__() == 8, "it gave up its surplus, and no more"

    third = holder()
    await shared(eventually, [first, second, third], 6, 5, 5)
    assert len(first.ended["work"]) + len(second.ended["work"]) == 8 + len(third.held["work"])

    kept = [set(first.held["work"]), set(third.held["work"])]
    begun = [len(first.begun["work"]), len(third.begun["work"])]
    await second.leave()
    await shared(eventually, [first, third], 8, 8)
    for replica, before, number in zip((first, third), kept, begun, strict=True):
        assert before <= replica.held["work"]
        assert len(replica.begun["work"]) - number == 8 - len(before), "what did not move did not pause"


async def test_a_group_that_a_replica_has_left_is_not_in_its_metrics(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    """A replica leaves the group of a view's earlier version: what it said last was there until its end."""
    replica = holder()

    def held() -> list[float]:
        return [number for group, number in leases_held.series() if group == ("work",)]

    async def all_held() -> bool:
        return held() == [16]

    await eventually(all_held)
    await replica.leave()
    assert held() == []


async def test_joins_and_graceful_stops_are_announced_and_need_no_heartbeat(
    holder: "NewHolder", eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "POLL_SECONDS", 600.0)
    first, second = holder(session_seconds=1200.0), holder(session_seconds=1200.0)
    await shared(eventually, [first, second], 8, 8)
    await second.leave()
    await shared(eventually, [first], 16)


async def test_a_replica_that_dies_is_replaced(holder: "NewHolder", eventually: "Eventually") -> None:
    first, second, third = holder(), holder(), holder()
    await shared(eventually, [first, second, third], 6, 5, 5)
    await first.die()
    await shared(eventually, [second, third], 8, 8)


async def test_with_more_replicas_than_partitions_some_wait(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    replicas = [holder(partitions=3) for _ in range(5)]
    await shared(eventually, replicas, 1, 1, 1, 0, 0)
    [working, *_] = [replica for replica in replicas if replica.held["work"]]
    await working.die()
    replicas.remove(working)
    await shared(eventually, replicas, 1, 1, 1, 0)
    for replica in replicas:
        await replica.readiness.check()


async def test_a_group_is_shared_by_the_replicas_that_joined_it(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    both, other = holder("ingest", "projection:turns"), holder("projection:turns")
    await shared(eventually, [both], 16, group="ingest")
    await shared(eventually, [both, other], 8, 8, group="projection:turns")


async def test_eight_groups_are_shared_and_no_replica_gets_every_remainder(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    groups = [f"projection:{number}" for number in range(8)]
    replicas = [holder(*groups) for _ in range(3)]
    for group in groups:
        await shared(eventually, replicas, 6, 5, 5, group=group)


async def test_work_that_ends_slowly_is_not_begun_elsewhere_before(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    first = holder()
    await shared(eventually, [first], 16)
    first.finish_seconds = 1.0
    second = holder()

    async def joined() -> bool:
        return first.leases._groups["work"].share == 8

    await eventually(joined)
    assert first.held["work"] == ALL
    assert second.held["work"] == set()
    await shared(eventually, [first, second], 8, 8)


async def test_fenced_work_is_called_again_after_a_backoff(
    holder: "NewHolder", eventually: "Eventually"
) -> None:
    first = holder()
    first.fence(20)
    await shared(eventually, [first], 16)

    assert len(first.begun["work"]) == 36


async def test_a_broken_connection_loses_every_lease_at_once(
    holder: "NewHolder", admin: "Admin", eventually: "Eventually"
) -> None:
    only = holder("ingest", "projection:turns")
    for group in ("ingest", "projection:turns"):
        await shared(eventually, [only], 16, group=group)
    await admin.execute(CUT)

    async def ended() -> bool:
        return set(only.ended["ingest"]) == set(only.ended["projection:turns"]) == ALL

    await eventually(ended)
    for group in ("ingest", "projection:turns"):
        await shared(eventually, [only], 16, group=group)


async def test_the_work_of_a_lost_lease_ends_before_it_begins_again(
    holder: "NewHolder", admin: "Admin", eventually: "Eventually"
) -> None:
    only = holder()
    await shared(eventually, [only], 16)
    only.finish_seconds = 2.0
    await admin.execute(CUT)

    async def again() -> bool:
        return len(only.begun["work"]) == 32

    await eventually(again)
    assert only.ended["work"].__len__() == 16


async def test_a_lost_connection_is_reported_until_there_is_one_again(
    holder: "NewHolder", postgres_server: Postgres, eventually: "Eventually"
) -> None:
    only = holder()
    with pytest.raises(NotReady, match="is starting"):
        await only.leases.check()
    await shared(eventually, [only], 16)
    assert await only.leases.check() == "work holds 0-15 (16 of 16, 1 replica)"

    postgres_server.stop()

    async def reported() -> bool:
        with suppress(NotReady):
            await only.leases.check()
            return False
        return True

    await eventually(reported)
    postgres_server.start()
    await shared(eventually, [only], 16)
    assert await only.leases.check() == "work holds 0-15 (16 of 16, 1 replica)"


async def test_the_owner_of_each_partition_is_named(
    holder: "NewHolder", admin: "Admin", eventually: "Eventually"
) -> None:
    first = holder()
    await shared(eventually, [first], 16)
    second = holder()
    await shared(eventually, [first, second], 8, 8)
    name = f"persistence leases {socket.gethostname()}:{os.getpid()} from 127.0.0.1"

    async def named() -> bool:
        text = await second.leases.check()
        return text.startswith("work holds ") and f", held by {name} (backend {first.leases._pid})" in text

    await eventually(named)
    found = await holders(admin, [lease_name("work", partition) for partition in ALL])
    for replica in (first, second):
        for partition in replica.held["work"]:
            assert found[lease_name("work", partition)] == f"{name} (backend {replica.leases._pid})"


async def test_a_session_without_heartbeats_is_ended_and_its_share_is_taken(
    holder: "NewHolder", postgres_dsn: str, eventually: "Eventually"
) -> None:
    hung = Leases(postgres_dsn, session_seconds=1.0)
    session = await hung._connect()
    await session.execute("select pg_advisory_lock_shared(hashtextextended('member:work', 0))")
    await session.execute("select pg_advisory_lock(hashtextextended('work:3', 0))")

    await shared(eventually, [holder()], 16)
    session.terminate()


async def test_a_server_that_accepts_no_writes_grants_no_lease(
    holder: "NewHolder", postgres_dsn: str, eventually: "Eventually"
) -> None:
    only = holder(dsn=f"{postgres_dsn}?default_transaction_read_only=on")

    async def refused() -> bool:
        try:
            return not await only.leases.check()
        except NotReady as error:
            return "does not accept writes" in str(error)

    await eventually(refused)
    assert only.begun["work"] == []


async def test_two_databases_of_one_server_do_not_share_leases(
    holder: "NewHolder", admin: "Admin", postgres_dsn: str, eventually: "Eventually"
) -> None:
    name = f"other_{uuid4().hex[:12]}"
    await admin.execute(f"create database {name}")
    here, there = holder(), holder(dsn=urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}")))

    await shared(eventually, [here], 16)
    await shared(eventually, [there], 16)
    await there.die()
    await admin.execute(f"drop database {name} with (force)")


async def test_a_lease_of_an_earlier_version_is_respected(
    holder: "NewHolder", admin: "Admin", eventually: "Eventually"
) -> None:
    """It knows no shares, and holds what it can get until it ends."""
    await admin.execute(
        "select pg_advisory_lock(hashtextextended('work:' || n, 0)) from generate_series(0, 9) as n"
    )
    only = holder()

    async def has_the_rest() -> bool:
        return only.held["work"] == set(range(10, 16))

    await eventually(has_the_rest)
    await admin.execute("select pg_advisory_unlock_all()")
    await shared(eventually, [only], 16)


async def test_a_process_joins_a_group_once(postgres_dsn: str) -> None:
    leases = Leases(postgres_dsn)
    leases.join("work")
    with pytest.raises(ValueError, match="already a member of group work"):
        leases.join("work")


async def test_a_heartbeat_at_rest_is_one_statement(
    holder: "NewHolder", eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    connect = Leases._connect

    async def observed(self: Leases) -> "Admin":
        session = await connect(self)
        session.add_query_logger(lambda record: asked.append(record.query))
        return session

    monkeypatch.setattr(Leases, "_connect", observed)
    groups = [f"projection:{number}" for number in range(8)]
    only = holder(*groups)
    for group in groups:
        await shared(eventually, [only], 16, group=group)
    asked.clear()

    async def two_heartbeats() -> bool:
        return len(asked) >= 2

    await eventually(two_heartbeats)
    assert set(asked) == {locks._LOOK}
