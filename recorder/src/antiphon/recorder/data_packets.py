"""Count data packets: one event per sender and topic at once, then one per second with what followed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from livekit import rtc

from antiphon.contracts.events.media import DataReceived
from antiphon.recorder.outbox import WriteEvent

WINDOW_SECONDS = 1.0
SOURCES = 64  # senders and topics that are counted apart within a window

_Source = tuple[str | None, str | None, str]  # identity, topic, kind


@dataclass(slots=True)
class _Count:
    packets: int = 0
    size_bytes: int = 0


class DataPackets:
    """Writer of `data_received`: at most one event per source and second, whose payload is not stored."""

    def __init__(
        self,
        write: WriteEvent,
        guard: Callable[[str, Callable[..., object]], Callable[..., None]],
        *,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._write = write
        self._guard = guard
        self._window_seconds = window_seconds
        self._counts: dict[_Source, _Count] = {}  # since the first packet of the window, without it
        self._timer: asyncio.TimerHandle | None = None

    def add(self, packet: rtc.DataPacket) -> None:
        """Write the first packet of a source; count those that follow within the window."""
        identity = packet.participant.identity if packet.participant else None
        source: _Source = (identity, packet.topic or None, _kind(packet.kind))
        if source not in self._counts and len(self._counts) >= SOURCES:
            source = (None, None, source[2])
        count = self._counts.get(source)
        if count is None:
            self._counts[source] = _Count()
            self._write_count(source, _Count(1, len(packet.data)))
        else:
            count.packets += 1
            count.size_bytes += len(packet.data)
        if self._timer is None:
            flush = self._guard("data_packets", self.flush)
            self._timer = asyncio.get_running_loop().call_later(self._window_seconds, flush)

    def flush(self) -> None:
        """Write what was counted and end the window."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        counts, self._counts = self._counts, {}
        for source, count in counts.items():
            if count.packets:
                self._write_count(source, count)

    def _write_count(self, source: _Source, count: _Count) -> None:
        identity, topic, kind = source
        self._write(
            DataReceived(
                size_bytes=count.size_bytes, packets=count.packets, kind=kind, topic=topic, identity=identity
            )
        )


def _kind(value: int) -> str:
    return rtc.DataPacketKind.Name(value).removeprefix("KIND_").lower()  # type: ignore[arg-type]
