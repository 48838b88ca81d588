"""The room's events in the record; those of a real room are in the tests of the agent worker."""

import asyncio
from types import SimpleNamespace
from typing import Any

from livekit import rtc
from tests.recorder.recorded_session import RecordedSession

from antiphon.contracts.event import Event
from antiphon.contracts.events.media import (
    DataReceived,
    Reconnected,
    Reconnecting,
    SipDtmfReceived,
    TrackSubscriptionFailed,
)
from antiphon.contracts.events.participant import ParticipantNameChanged
from antiphon.contracts.events.session import SessionClosed
from antiphon.recorder.data_packets import DataPackets
from antiphon.recorder.taps import ErrorGuard

CALLER: Any = SimpleNamespace(identity="caller", sid="PA_1")


def packet(*, topic: str = "chat", size: int = 10, identity: str = "caller") -> Any:
    return SimpleNamespace(
        data=bytes(size),
        kind=rtc.DataPacketKind.KIND_RELIABLE,
        topic=topic,
        participant=SimpleNamespace(identity=identity),
    )


async def test_room_events_are_recorded(recorded: RecordedSession) -> None:
    emit = recorded.ctx.room.emit
    emit("reconnecting")
    emit("reconnecting")  # LiveKit repeats it for each attempt
    emit("reconnected")
    emit("participant_name_changed", CALLER, "", "Ada")
    emit("track_subscription_failed", CALLER, "TR_1", "no codec")
    emit("sip_dtmf_received", rtc.SipDTMF(code=5, digit="5", participant=CALLER))
    emit("sip_dtmf_received", rtc.SipDTMF(code=11, digit="#"))
    events = await recorded.events()
    assert recorded.recording.guard.errors == 0
    assert [type(event) for event in events[1:]] == [
        Reconnecting,
        Reconnected,
        ParticipantNameChanged,
        TrackSubscriptionFailed,
        SipDtmfReceived,
        SipDtmfReceived,
    ]
    assert isinstance(events[2], Reconnected)
    assert events[2].gap_seconds is not None
    assert events[-2:] == [
        SipDtmfReceived(code=5, digit="5", identity="caller"),
        SipDtmfReceived(code=11, digit="#"),
    ]


async def test_data_packets_of_a_window_become_one_event() -> None:
    written: list[Event] = []

    def write(event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        written.append(event)

    packets = DataPackets(write, ErrorGuard().wrap, window_seconds=0.05)
    for _ in range(1000):
        packets.add(packet())
    packets.add(packet(topic="other"))
    assert [event.packets for event in written if isinstance(event, DataReceived)] == [1, 1]
    async with asyncio.timeout(20):
        while len(written) < 3:  # noqa: ASYNC110 - written by a timer
            await asyncio.sleep(0.01)
    assert written[2] == DataReceived(
        size_bytes=9990, packets=999, kind="reliable", topic="chat", identity="caller"
    )
    packets.add(packet())
    assert len(written) == 4
    packets.flush()
    assert len(written) == 4


async def test_many_senders_share_one_count() -> None:
    written: list[Event] = []

    def write(event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        written.append(event)

    packets = DataPackets(write, ErrorGuard().wrap)
    for number in range(10_000):
        packets.add(packet(identity=f"user-{number}", topic=f"topic-{number}"))
    packets.flush()
    counts = [event for event in written if isinstance(event, DataReceived)]
    assert sum(event.packets for event in counts) == 10_000
    assert len(counts) < 100
    assert counts[-1].identity is None


async def test_counted_packets_are_written_before_the_end(recorded: RecordedSession) -> None:
    for _ in range(5):
        recorded.ctx.room.emit("data_received", packet())
    events = await recorded.finish()
    assert [event.packets for event in events if isinstance(event, DataReceived)] == [1, 4]
    assert isinstance(events[-1], SessionClosed)
