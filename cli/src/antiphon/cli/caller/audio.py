"""The caller's audio: a microphone that speaks text, and a recorder of the other participants."""

import asyncio
from array import array
from collections import deque
from dataclasses import dataclass
from math import sqrt

from livekit import rtc

from antiphon.agent_worker.providers.espeak import synthesize

RECORDING_RATE = 16_000  # Hz
FRAME_MILLISECONDS = 20
SAMPLE_BYTES = 2
QUEUE_MILLISECONDS = 500  # of audio, so that a busy process leaves no gap


class Microphone:
    """A published audio track: queued speech, else silence."""

    def __init__(self) -> None:
        self._rate, _ = synthesize("a")
        self._source = rtc.AudioSource(self._rate, 1, queue_size_ms=QUEUE_MILLISECONDS)
        self._frames: deque[bytes] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self._open = True
        self._task: asyncio.Task[None] | None = None
        self._samples = self._rate * FRAME_MILLISECONDS // 1000

    async def open(self, participant: rtc.LocalParticipant) -> None:
        """Publish the track and start sending."""
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await participant.publish_track(track, options)
        self._task = asyncio.create_task(self._send(), name="microphone")

    async def close(self) -> None:
        """Stop sending."""
        self._open = False
        if self._task:
            await self._task  # not cancelled: LiveKit logs an error for a frame that is cut off
        await self._source.aclose()

    async def say(self, text: str) -> None:
        """Speak the text; return when all of it has been sent."""
        _, pcm = await asyncio.to_thread(synthesize, text)
        await self.play(pcm)

    async def play(self, pcm: bytes) -> None:
        """Send mono signed 16-bit PCM at `rate` Hz; return when all of it has been sent."""
        size = self._samples * SAMPLE_BYTES
        self._empty.clear()
        self._frames.extend(
            pcm[start : start + size].ljust(size, b"\0") for start in range(0, len(pcm), size)
        )
        await self._empty.wait()
        await asyncio.sleep(self._source.queued_duration)

    @property
    def rate(self) -> int:
        """The sample rate in Hz."""
        return self._rate

    async def _send(self) -> None:
        silence = bytes(self._samples * SAMPLE_BYTES)
        while self._open:
            frame = self._frames.popleft() if self._frames else silence
            if not self._frames:
                self._empty.set()
            await self._source.capture_frame(rtc.AudioFrame(frame, self._rate, 1, self._samples))


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Mono signed 16-bit PCM at 16 kHz, and its time of arrival in seconds of the loop's clock."""

    at: float
    pcm: bytes


class AudioRecorder:
    """A recorder of the other participants' tracks."""

    def __init__(self) -> None:
        self.chunks: list[AudioChunk] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, track: rtc.Track) -> None:
        """Record this track from now on."""
        task = asyncio.create_task(self._record(track), name=f"record {track.sid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pcm(self, *, since: float = 0.0, until: float = float("inf")) -> bytes:
        """Return the recording between two times of the loop's clock."""
        return b"".join(chunk.pcm for chunk in self.chunks if since <= chunk.at <= until)

    def loudness(self, *, since: float = 0.0, until: float = float("inf")) -> float:
        """Return the root mean square between two times, from 0 (silence) to 32767."""
        samples = array("h", self.pcm(since=since, until=until))
        return sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0

    async def close(self) -> None:
        """Stop recording."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _record(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RECORDING_RATE, num_channels=1)
        clock = asyncio.get_running_loop().time
        try:
            async for event in stream:
                self.chunks.append(AudioChunk(clock(), bytes(event.frame.data)))
        finally:
            await stream.aclose()
