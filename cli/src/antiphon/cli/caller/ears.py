import asyncio
from array import array
from dataclasses import dataclass
from math import sqrt

from livekit import rtc

RATE = 16_000


@dataclass(frozen=True, slots=True)
class Heard:
    """A piece of sound: mono signed 16-bit PCM at 16 kHz, and when it came (seconds, the loop's clock)."""

    at: float
    pcm: bytes


class Ears:
    """Record everything that is heard in the room."""

    def __init__(self) -> None:
        self.sound: list[Heard] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, track: rtc.Track) -> None:
        """Record this track from now on."""
        task = asyncio.create_task(self._record(track), name=f"listen to {track.sid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pcm(self, *, since: float = 0.0, until: float = float("inf")) -> bytes:
        """Return what was heard between two moments of the loop's clock."""
        return b"".join(piece.pcm for piece in self.sound if since <= piece.at <= until)

    def loudness(self, *, since: float = 0.0, until: float = float("inf")) -> float:
        """Return the root mean square of what was heard between two moments; 0 is silence, 32767 the most."""
        samples = array("h", self.pcm(since=since, until=until))
        return sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0

    async def close(self) -> None:
        """Stop recording."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _record(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        clock = asyncio.get_running_loop().time
        try:
            async for event in stream:
                self.sound.append(Heard(clock(), bytes(event.frame.data)))
        finally:
            await stream.aclose()
