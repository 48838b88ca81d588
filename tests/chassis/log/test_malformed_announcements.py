"""An announcement that anyone could have published does not stop or slow down those who follow the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.ids import SequentialIds
from tests.fixtures.raw_nats import RawPublisher

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Batch, Log, follow
from antiphon.chassis.log.notify import ALL_PARTITIONS, SharedAnnouncements, envelopes_in
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of

MALFORMED = [
    b"committed." + token
    for token in (b"\xff", "²".encode(), b"99.a.b", b"-1.a.b", b"\x00.a", b"3\x0b.a", b"9" * 1500 + b".a")
]


async def next_events(following: AsyncIterator[Batch]) -> list[Envelope]:
    """Return the next list that is not empty: an empty one says that there is nothing more."""
    while True:
        if events := (await anext(following)).envelopes:
            return events


@pytest.mark.parametrize("subject", MALFORMED)
async def test_a_malformed_subject_does_not_end_the_notifications(
    subject: bytes,
    database: Database,
    bus: Bus,
    nats_server: NatsServer,
    writer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 3600.0)  # only notifications wake the reader
    session = SequentialIds()()
    raw = RawPublisher(nats_server.port)
    async with aclosing(Log(database, bus).follow(Cursor())) as following:
        await writer.commit_and_announce(session)
        async with asyncio.timeout(60):
            assert len(await next_events(following)) == 1
            raw.publish(subject, b"[]")
            reading = asyncio.ensure_future(next_events(following))
            await asyncio.sleep(0.2)  # the malformed one is read
            await writer.commit_and_announce(session)
            assert len(await reading) == 1
    raw.close()


@pytest.mark.parametrize("payload", [b"\xff", b"[" * 100_000, b'["\xff"]', b"", b"{}", b"[1]"])
async def test_a_malformed_payload_is_no_envelope(
    payload: bytes, database: Database, bus: Bus, writer: Any
) -> None:
    session = SequentialIds()()
    assert envelopes_in(("committed.1.default.x", payload)) == ()
    async with aclosing(Log(database, bus).follow_session("default", session)) as following:
        reading = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.2)
        await bus.announce(f"committed.{partition_of(session)}.default.{session}", payload)
        await writer.commit_and_announce(session)
        async with asyncio.timeout(60):
            assert (await reading).sequence == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subject=st.text(max_size=20), payload=st.binary(max_size=50))
def test_any_announcement_names_partitions_that_exist(subject: str, payload: bytes) -> None:
    from antiphon.chassis.log import notify

    assert notify._partitions((f"committed.{subject}", payload)) <= ALL_PARTITIONS
    assert envelopes_in((subject, payload)) == () or payload.startswith(b"[")


async def test_a_notifier_that_fails_is_started_again(
    database: Database, bus: Bus, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 3600.0)
    session = SequentialIds()()
    run, failed = SharedAnnouncements.run, 0

    async def run_or_fail(shared: SharedAnnouncements) -> None:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise ValueError("a mistake of ours")
        await run(shared)

    monkeypatch.setattr(SharedAnnouncements, "run", run_or_fail)
    async with aclosing(Log(database, bus).follow(Cursor())) as following:
        await writer.commit_and_announce(session)
        async with asyncio.timeout(60):
            assert len(await next_events(following)) == 1
            reading = asyncio.ensure_future(next_events(following))
            while failed < 2:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
            await writer.commit(session)
            assert len(await reading) == 1
