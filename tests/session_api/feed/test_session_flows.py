"""The flows of sessions: of any body that ingest accepts, and of a request that comes late."""

from typing import Any

import httpx
import msgspec
import pytest
from tests.session_api.conftest import Running, Start
from tests.session_api.feed.conftest import READY, TURN, LogWriter, keys_of, requested, streaming

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import SCHEMA_BASE, Envelope, encode
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.subjects import event_subject
from antiphon.contracts.validate import validate_event
from antiphon.session_api.feed.session_flows import SessionFlows

NEWER = f"{SCHEMA_BASE}/{SessionRequested.TYPE}/{SessionRequested.VERSION + 1}"
DEEP = "[" * 90 + "]" * 90
BODIES = ("[]", "null", "7", '"a"', '{"flow_id":"\\u0000"}', f'{{"flow_id":{DEEP}}}', f'{{"x":{DEEP}}}')


class NewerWriter(LogWriter):
    """Writes requests with a flow `newer <number>` as a newer producer does, with one of BODIES."""

    def _next(self, session_id: str, event: Event, tenant: str) -> Envelope:
        envelope = super()._next(session_id, event, tenant)
        if not isinstance(event, SessionRequested) or not event.flow_id.startswith("newer "):
            return envelope
        body = BODIES[int(event.flow_id.removeprefix("newer "))]
        newer = msgspec.structs.replace(envelope, data=msgspec.Raw(body.encode()), dataschema=NEWER)
        sent = msgspec.structs.replace(newer, sequence=msgspec.UNSET, position=msgspec.UNSET)
        validate_event(event_subject(tenant, session_id, SessionRequested.FAMILY), encode(sent))
        return newer


@pytest.fixture
def writer(bus: Any, database: Database) -> LogWriter:
    """A writer that can be a newer producer."""
    return NewerWriter(bus, database)


def keys(response: httpx.Response) -> list[tuple[str, int]]:
    assert response.status_code == 200, response.text
    return [(event["subject"], event["sequence"]) for event in response.json()["items"]]


async def test_a_request_of_a_newer_version_has_no_flow(
    running: Running, client: httpx.AsyncClient, writer: LogWriter
) -> None:
    newer = [writer.session(f"n{number}") for number in range(len(BODIES))]
    known = writer.session("known")
    async with streaming(running.url, after="now") as live, streaming(running.url, flow_id="booking") as flow:
        await writer.commit(known, requested("booking"))
        for number, one in enumerate(newer):
            await writer.commit(one, requested(f"newer {number}"), TURN)
        await writer.commit(known, TURN)
        streamed = [one.key for one in await live.take(len(writer.log))]
        of_flow = [one.key for one in await flow.take(2)]
        await running.dependencies.hubs.ready()
    page = await client.get("/v1/events")
    of_one = await client.get("/v1/events", params={"flow_id": "booking"})
    export = await client.get("/v1/events/export")

    assert sorted(streamed) == sorted(keys(page)) == sorted(keys_of(writer.log))
    assert of_flow == keys(of_one) == [(known, 1), (known, 2)]
    assert export.text.count('"specversion"') == len(writer.log)
    assert '"complete":true' in export.text


async def test_the_flow_in_the_log_may_be_anything(database: Database, writer: LogWriter) -> None:
    newer = [writer.session(f"n{number}") for number in range(len(BODIES))]
    for number, one in enumerate(newer):
        await writer.commit(one, requested(f"newer {number}"))

    flows = await SessionFlows(database)._of("default", set(newer))

    assert [flows[one] for one in newer] == [None, None, None, None, "\N{REPLACEMENT CHARACTER}", None, None]


async def test_a_request_that_is_not_the_first_event_counts_once_it_is_there(
    start: Start, client: httpx.AsyncClient, writer: LogWriter
) -> None:
    late, params = writer.session("late"), {"flow_id": "booking", "type": "turn.saved"}
    await writer.commit(late, TURN)
    before = await client.get("/v1/events", params=params)
    await writer.commit(late, requested("booking"), READY, TURN)
    after = await client.get("/v1/events", params=params)
    other = await start()
    async with httpx.AsyncClient(base_url=other.url, headers={"Authorization": "Bearer reader"}) as fresh:
        elsewhere = await fresh.get("/v1/events", params=params)

    assert keys(before) == []
    assert keys(after) == keys(elsewhere) == [(late, 1), (late, 4)]
