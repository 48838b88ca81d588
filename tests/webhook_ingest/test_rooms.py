"""The session of a room: from its metadata, the cache, its events, or the bucket of adopted rooms."""

from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import SessionAdopted, SessionRequested
from antiphon.contracts.ids import adopted_id, adopted_session_id, named_session_id, requested_id
from antiphon.contracts.rooms import AdoptedRoom, encode_room
from antiphon.webhook_ingest import rooms
from antiphon.webhook_ingest.rooms import RoomSessions, other_deployment

GIVEN = named_session_id("acme", "given by the agent")


async def _publish(bus: Bus, event: Event, event_id: str, session_id: str, tenant: str) -> None:
    envelope = seal(
        event,
        id=event_id,
        session_id=session_id,
        tenant=tenant,
        producer="test",
        producerseq=0,
        time=datetime.now(UTC),
    )
    await bus.publish(outgoing(envelope))


async def _request(bus: Bus, session_id: str, tenant: str) -> None:
    event = SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=session_id)
    await _publish(bus, event, requested_id(session_id), session_id, tenant)


def _metadata(session_id: str, tenant: str) -> str:
    return f'{{"session_id":"{session_id}","tenant":"{tenant}"}}'


async def test_metadata_has_the_tenant(bus: Bus, session_id: str) -> None:
    found = await RoomSessions(bus).of_room(session_id, "RM_1", _metadata(session_id, "acme"))

    assert found == AdoptedRoom(session_id, "acme")


async def test_session_is_cached(bus: Bus, session_id: str) -> None:
    lookup = RoomSessions(bus)
    await lookup.of_room(session_id, "RM_1", _metadata(session_id, "acme"))

    assert await lookup.of_room(session_id, "RM_1", "") == AdoptedRoom(session_id, "acme")


async def test_tenant_is_read_from_session_events(bus: Bus, session_id: str) -> None:
    await _request(bus, session_id, "acme")

    assert await RoomSessions(bus).of_room(session_id, "", "") == AdoptedRoom(session_id, "acme")


@pytest.mark.parametrize(
    "metadata",
    [
        "not json",
        "{}",
        "[" * 100_000,
        '{"session_id":"ses_other","tenant":"thief"}',
        '{"session_id":"ses_01m7yq1we0eqq9xvayxnfetqqd","tenant":"Not A Tenant"}',
    ],
    ids=["no json", "empty", "deep", "other", "no tenant"],
)
async def test_metadata_of_another_session_is_ignored(metadata: str, bus: Bus, session_id: str) -> None:
    await _request(bus, session_id, "acme")

    assert await RoomSessions(bus).of_room(session_id, "RM_1", metadata) == AdoptedRoom(session_id, "acme")


@pytest.mark.parametrize("room", ["", "foreign-room", "ses_short", "ses_*", ">"])
@pytest.mark.parametrize("sid", ["", "RM_1", "RM_*", "a.b", ">", "x" * 300])
async def test_other_room_has_no_session(room: str, sid: str, bus: Bus) -> None:
    assert await RoomSessions(bus).of_room(room, sid, "") is None


async def test_unknown_session_has_no_room(bus: Bus, session_id: str) -> None:
    assert await RoomSessions(bus).of_room(session_id, "RM_1", "") is None


async def test_announced_room_has_the_session_of_its_recorder(bus: Bus) -> None:
    lookup = RoomSessions(bus)
    assert await lookup.of_room("lobby", "RM_1", "") is None  # not remembered

    await (await bus.bucket("rooms")).put("RM_1", encode_room(AdoptedRoom(GIVEN, "acme")))

    assert await lookup.of_room("lobby", "RM_1", "") == AdoptedRoom(GIVEN, "acme")
    assert await lookup.of_room("lobby", "RM_2", "") is None  # a later room of the same name


@pytest.mark.parametrize("value", [b"", b"{}", b"not json", b'{"session_id":"x","tenant":"acme"}'])
async def test_malformed_announcement_is_ignored(value: bytes, bus: Bus) -> None:
    await (await bus.bucket("rooms")).put("RM_1", value)

    assert await RoomSessions(bus).of_room("lobby", "RM_1", "") is None


async def test_adopted_room_without_announcement_is_found_by_its_sid(bus: Bus) -> None:
    session_id = adopted_session_id("default", "RM_1")
    event = SessionAdopted(room="lobby", room_sid="RM_1")
    await _publish(bus, event, adopted_id(session_id), session_id, "default")

    assert await RoomSessions(bus).of_room("lobby", "RM_1", "") == AdoptedRoom(session_id, "default")


async def test_webhooks_follow_a_room_to_its_newest_session(bus: Bus) -> None:
    lookup = RoomSessions(bus)
    bucket = await bus.bucket("rooms")
    for session_id in (adopted_session_id("acme", "RM_1", call) for call in (1, 2)):
        await bucket.put("RM_1", encode_room(AdoptedRoom(session_id, "acme")))
        assert await lookup.of_room("lobby", "RM_1", "") == AdoptedRoom(session_id, "acme")


async def test_newest_session_of_a_room_without_announcement_is_found(bus: Bus) -> None:
    for call in (1, 2):
        session_id = adopted_session_id("default", "RM_1", call)
        event = SessionAdopted(room="lobby", room_sid="RM_1")
        await _publish(bus, event, adopted_id(session_id), session_id, "default")

    assert await RoomSessions(bus).of_room("lobby", "RM_1", "") == AdoptedRoom(session_id, "default")


async def test_cache_is_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "CACHE_SIZE", 2)
    lookup = RoomSessions(bus)
    names = [f"ses_{number:026d}" for number in range(3)]
    for name in names:
        await lookup.of_room(name, "RM_1", _metadata(name, "acme"))

    # The oldest entry was evicted, and the session has no events.
    found = [await lookup.of_room(name, "RM_1", "") for name in names]
    assert found == [None, AdoptedRoom(names[1], "acme"), AdoptedRoom(names[2], "acme")]


@pytest.mark.parametrize(
    ("metadata", "foreign"),
    [
        ("", False),
        ("not json", False),
        ("[" * 100_000, False),
        ("[]", False),
        ('{"session_id":"ses_1","tenant":"default"}', False),  # of an earlier version
        ('{"deployment":"testonly"}', False),
        ('{"deployment":"../../.."}', False),  # someone else's word, not an id
        ('{"deployment":7}', False),
        ('{"deployment":"01234567"}', False),
        ('{"session_id":"ses_1","deployment":"frontend"}', False),
        (f'{{"session_id":"{GIVEN}","tenant":"default","deployment":"testonly"}}', False),
        (f'{{"session_id":"{GIVEN}","tenant":"default","deployment":"01234567"}}', True),
    ],
)
def test_room_is_foreign_when_its_metadata_names_another_deployment(metadata: str, foreign: bool) -> None:
    assert (other_deployment(metadata, "testonly") is not None) is foreign
