import asyncio
from collections import deque

from livekit import rtc

from antiphon.agent_worker.providers.espeak import synthesize

FRAME_MILLISECONDS = 20
SAMPLE_BYTES = 2
# the source paces what it is given; what is queued outlasts a moment in which this process gets no turn
QUEUE_MILLISECONDS = 500


class Microphone:
    """Send sound into the room without a break: words when there are any, else silence."""

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
        """Publish the track and begin to send."""
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await participant.publish_track(track, options)
        self._task = asyncio.create_task(self._send(), name="microphone")

    async def close(self) -> None:
        """Stop sending."""
        self._open = False
        if self._task:
            await self._task  # at its next frame: one that is cut off is an error in LiveKit's log
        await self._source.aclose()

    async def say(self, text: str) -> None:
        """Speak the text and return when its last sound has been sent."""
        _, pcm = await asyncio.to_thread(synthesize, text)
        await self.play(pcm)

    async def play(self, pcm: bytes) -> None:
        """Send mono signed 16-bit sound at `rate` Hz and return when its last sound has been sent."""
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
