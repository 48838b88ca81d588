"""GET /v1/events as a stream: history, then live, each event once and in order, resumed by any id."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import httpx
import pytest
from tests.session_api.conftest import Running, Start
from tests.session_api.feed.conftest import (
    KINDS,
    READY,
    TURN,
    LogWriter,
    assert_each_once_in_order,
    keys_of,
    requested,
    streaming,
)

from antiphon.contracts.api_keys import key_digest
from antiphon.contracts.audit import Actor
from antiphon.contracts.ids import named_session_id

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def test_history_then_live_events_of_the_tenant(running: Running, writer: LogWriter) -> None:
    ids = [writer.session(str(number)) for number in range(5)]
    await writer.commit_all([(one, READY) for one in ids])
    foreign = writer.session("foreign", "other")
    await writer.commit(foreign, READY, tenant="other")
    async with streaming(running.url) as stream, streaming(running.url, "foreign") as other:
        history = await stream.take(5)
        await writer.commit_all([(one, TURN) for one in ids])
        live = await stream.take(5)
        await writer.commit(foreign, TURN, tenant="other")
        theirs = await other.take(2)

    ours = [e for e in writer.log if e.tenant == "default"]
    assert_each_once_in_order([one.key for one in history + live], keys_of(ours))
    assert [one.event["type"] for one in live] == ["turn.saved"] * 5
    assert [one.key for one in theirs] == [(foreign, 1), (foreign, 2)]


async def test_a_stream_resumes_after_every_id(running: Running, writer: LogWriter) -> None:
    ids = [writer.session(str(number)) for number in range(6)]
    await writer.commit_all([(one, event) for event in KINDS for one in ids])
    everything = set(keys_of(writer.log))
    async with streaming(running.url) as stream:
        received = await stream.take(len(everything))

    for number in (0, 1, 5, 11, len(received) - 1):
        async with streaming(running.url, last_event_id=received[number].id, after="now") as stream:
            await writer.commit(ids[0], READY)
            rest = await stream.take(len(writer.log) - number - 1)
        before = [one.key for one in received[: number + 1]]
        assert_each_once_in_order(before + [one.key for one in rest], keys_of(writer.log))


async def test_pages_and_streams_share_their_cursors(
    client: httpx.AsyncClient, running: Running, writer: LogWriter
) -> None:
    ids = [writer.session(str(number)) for number in range(6)]
    await writer.commit_all([(one, READY) for _ in range(3) for one in ids])
    page = (await client.get("/v1/events", params={"limit": 7})).json()
    first = [(event["subject"], event["sequence"]) for event in page["items"]]
    async with streaming(running.url, after=page["next"]) as stream:
        second = await stream.take(5)
    rest = (await client.get("/v1/events", params={"after": second[-1].id})).json()["items"]

    found = first + [one.key for one in second] + [(event["subject"], event["sequence"]) for event in rest]
    assert_each_once_in_order(found, keys_of(writer.log))


async def test_heartbeats_move_the_id_past_what_the_filter_leaves_out(
    start: Start, writer: LogWriter, client: httpx.AsyncClient
) -> None:
    running = await start(heartbeat_seconds=0.1)
    one = writer.session("a")
    async with streaming(running.url, type="tool.started", after="now") as stream:
        before = stream.last_id
        await writer.commit(one, READY, TURN)
        async with asyncio.timeout(60):
            while stream.last_id == before:
                assert await stream.next() is None
    page = (await client.get("/v1/events", params={"after": stream.last_id})).json()

    assert stream.comments
    assert page["items"] == []


async def test_a_long_history_without_a_match_shows_its_progress(
    running: Running, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.session_api.feed.subscriber.STEP", 20)
    monkeypatch.setattr("antiphon.session_api.feed.reading.LEAST", 20)
    monkeypatch.setattr("antiphon.session_api.feed.stream.PROGRESS_SECONDS", 0.0)
    one = writer.session("a")
    await writer.commit(one, requested("support"), *[READY] * 200)
    ids: set[str] = set()
    async with streaming(running.url, flow_id="booking") as stream, asyncio.timeout(60):
        while len(ids) < 3:
            assert await stream.next() is None
            ids.add(stream.last_id)


FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"type": ["turn.saved", "agent.ready"]},
    {"family": "session"},
    {"flow_id": "a"},
    {"flow_id": "b", "type": ["tool.started"]},
    {"session_id": named_session_id("default", "3")},
)


def selected(writer: LogWriter, wanted: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what of the log a filter selects, by itself."""
    return keys_of(
        envelope
        for envelope in writer.log
        if envelope.type in wanted.get("type", (envelope.type,))
        and envelope.type.startswith("session." if "family" in wanted else "")
        and wanted.get("flow_id") in (None, writer.flows.get(envelope.subject))
        and wanted.get("session_id") in (None, envelope.subject)
    )


class Joiner:
    """A reader of pieces of streams, each from the last id on."""

    def __init__(self, url: str, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.found: list[tuple[str, int]] = []
        self._url = url
        self._resume: str | None = None

    async def read(self, seconds: float) -> None:
        async with streaming(self._url, last_event_id=self._resume, **self.wanted) as stream:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        if (received := await stream.next()) is not None:
                            self.found.append(received.key)
                        self._resume = stream.last_id


async def test_subscribers_that_join_at_any_time_get_each_event_once_and_in_order(
    running: Running, writer: LogWriter
) -> None:
    random = Random(9)
    ids = [writer.session(str(number)) for number in range(12)]
    await writer.commit_all([(one, requested(random.choice("ab"))) for one in ids])
    done = asyncio.Event()

    async def subscribe(joiner: Joiner) -> None:
        await asyncio.sleep(random.uniform(0, 2.0))
        while not done.is_set() or len(joiner.found) < len(selected(writer, joiner.wanted)):
            await joiner.read(random.uniform(0.2, 1.5))

    joiners = [Joiner(running.url, FILTERS[number % len(FILTERS)]) for number in range(12)]
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for joiner in joiners:
            group.create_task(subscribe(joiner))
        for _ in range(60):
            chosen = [(random.choice(ids), random.choice(KINDS)) for _ in range(random.randint(1, 20))]
            await writer.commit_all(chosen)
            await asyncio.sleep(random.uniform(0, 0.08))
        done.set()

    for joiner in joiners:
        assert_each_once_in_order(joiner.found, selected(writer, joiner.wanted))


async def test_a_reader_behind_the_hub_reads_the_log_and_joins_again(
    running: Running, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs = running.dependencies.hubs
    monkeypatch.setattr(hubs, "hub_bytes", 6_000)  # some ten events
    ids = [writer.session(str(number)) for number in range(8)]
    await writer.commit_all([(one, requested("a")) for one in ids])
    async with streaming(running.url) as slow, streaming(running.url) as fast:
        found = await fast.take(len(ids))
        for _ in range(40):
            await writer.commit_all([(one, TURN) for one in ids])
            found += await fast.take(len(ids))
            assert hubs.bytes <= 6_000
        theirs = await slow.take(len(writer.log))

    assert_each_once_in_order([one.key for one in found], keys_of(writer.log))
    assert_each_once_in_order([one.key for one in theirs], keys_of(writer.log))


async def test_a_new_tenant_gets_room_from_the_largest(
    running: Running, writer: LogWriter, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    hubs = running.dependencies.hubs
    monkeypatch.setattr(hubs, "all_bytes", 9_000)  # some fifteen events
    theirs, ours = writer.session("t", "other"), writer.session("o")
    async with streaming(running.url, "foreign") as large, streaming(running.url, after="now") as small:
        for _ in range(20):
            await writer.commit(theirs, READY, tenant="other")
            await large.take(1)
        await writer.commit(ours, READY)
        await small.take(1)
        sizes = {tenant: hub.bytes for tenant, hub in hubs._hubs.items()}
        await writer.commit(theirs, READY, tenant="other")
        await large.take(1)

    assert 0 < sizes["default"] < sizes["other"]
    assert sum(sizes.values()) <= 9_000


async def test_the_hub_ends_with_its_last_subscriber(
    running: Running, writer: LogWriter, until: Until
) -> None:
    hubs = running.dependencies.hubs

    def reading() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("feed:")]

    async def free() -> bool:
        return not len(hubs) and not reading() and not hubs.bytes

    async with streaming(running.url) as one, streaming(running.url), streaming(running.url, "foreign"):
        await writer.commit(writer.session("a"), READY)
        await one.take(1)
        assert len(hubs) == 2
        assert sorted(reading()) == ["feed: default", "feed: other"]

    await until(free)


async def test_a_hub_that_fails_is_reported_and_goes_on(
    running: Running, writer: LogWriter, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    hubs = running.dependencies.hubs
    follow = hubs.reader.log.follow

    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault in the reader")

    async def unready() -> bool:
        report = await running.dependencies.health.report()
        return "a fault in the reader" in str(report)

    monkeypatch.setattr(hubs.reader.log, "follow", failing)
    async with streaming(running.url) as stream:
        await writer.commit(writer.session("a"), READY)
        await until(unready)
        monkeypatch.setattr(hubs.reader.log, "follow", follow)
        assert len(await stream.take(1)) == 1


async def test_streams_are_counted_and_end_with_their_key(
    running: Running, client: httpx.AsyncClient, put_key: Any, until: Until
) -> None:
    digest = await put_key("leaver")
    assert digest == key_digest("leaver")

    async def known() -> bool:
        return (await client.get("/v1/flows", headers={"Authorization": "Bearer leaver"})).status_code == 200

    await until(known)
    async with streaming(running.url, "leaver") as stream:
        assert len(running.dependencies.limits.streams) == 1
        await running.dependencies.key_store.revoke(digest, Actor("service:test"))
        await stream.end()


async def test_a_stop_of_the_server_ends_the_streams(running: Running, writer: LogWriter) -> None:
    async with streaming(running.url) as stream:
        running.stop.set()
        await stream.end()
