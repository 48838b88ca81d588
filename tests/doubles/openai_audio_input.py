"""The audio that OpenAI's realtime sessions hear: the buffer, the detection of speech, the transcription.

Speech is sound that is followed by `silence_seconds` of silence, in the audio's own time; what is heard is
the script of the double.
"""

import base64
import binascii
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from tests.doubles.audio import SoundDetector
from tests.doubles.openai_answers import pieces_of
from tests.doubles.server import Refused

RATE = 24_000

Send = Callable[[dict[str, Any]], Awaitable[None]]


def check_format(given: dict[str, Any] | None, where: str) -> None:
    """Raise Refused for audio that is not 24 kHz PCM, the only rate that the service takes."""
    if given is None or given.get("type") in ("audio/pcmu", "audio/pcma"):
        return
    if given.get("type") != "audio/pcm":
        raise Refused(400, f"Invalid value: '{given.get('type')}'.", "invalid_value", f"{where}.type")
    if given.get("rate", RATE) != RATE:
        raise Refused(400, f"Invalid value: 'rate' must be {RATE}.", "invalid_value", f"{where}.rate")


def silence_of(detection: dict[str, Any] | None) -> float | None:
    """Return the seconds of silence that end a turn, or None when the client commits the buffer itself."""
    if detection is None:
        return None
    if detection.get("type") == "semantic_vad":
        return 0.3
    if detection.get("type") != "server_vad":
        raise Refused(400, "Invalid value for 'turn_detection.type'.", "invalid_value")
    return float(detection.get("silence_duration_ms", 500)) / 1_000


class AudioInput:
    """The input buffer of one session."""

    def __init__(self, send: Send, next_utterance: Callable[[], str]) -> None:
        self.silence_seconds: float | None = 0.5  # None: only `commit` ends a turn
        self.transcribes = True
        self.last_item: str | None = None
        self._send = send
        self._next_utterance = next_utterance
        self._detector = SoundDetector(RATE)
        self._numbers = itertools.count(1)
        self._item: str | None = None  # of the speech that is going on
        self._has_sound = False
        self._bytes = 0

    async def append(self, message: dict[str, Any], started: Callable[[], Awaitable[None]]) -> bool:
        """Take audio; await `started` when speech starts; return whether a turn ended."""
        try:
            pcm = base64.b64decode(message.get("audio", ""), validate=True)
        except binascii.Error as error:
            raise Refused(
                400, "Invalid 'audio'. Expected base64-encoded audio bytes.", param="audio"
            ) from error
        self._bytes += len(pcm)
        ended = False
        for sound in self._detector.push(pcm):
            self._has_sound = True
            if self.silence_seconds is None:
                continue
            if sound.kind == "started":
                self._item = f"item_in_{next(self._numbers)}"
                await self._notify("speech_started", audio_start_ms=round(sound.started_at * 1_000))
                await started()
            elif sound.kind == "paused" and sound.silent_seconds >= self.silence_seconds:
                await self._notify("speech_stopped", audio_end_ms=round(sound.at * 1_000))
                await self._commit()
                ended = True
        return ended

    async def commit(self) -> None:
        """End the turn because the client says so."""
        if self._bytes < RATE // 5:  # 100 ms
            raise Refused(
                400,
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        await self._commit()

    async def clear(self) -> None:
        """Drop the audio."""
        self._reset()
        await self._send({"type": "input_audio_buffer.cleared"})

    async def _commit(self) -> None:
        item = self._item or f"item_in_{next(self._numbers)}"
        text = self._next_utterance() if self._has_sound else ""
        seconds = self._bytes / 2 / RATE
        previous, self.last_item = self.last_item, item
        self._reset()
        await self._send(
            {"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item}
        )
        message = {
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        for kind in ("conversation.item.added", "conversation.item.done"):
            await self._send({"type": kind, "previous_item_id": previous, "item": message})
        if self.transcribes:
            await self._transcribe(item, text, seconds)

    async def _transcribe(self, item: str, text: str, seconds: float) -> None:
        head = {"item_id": item, "content_index": 0}
        prefix = "conversation.item.input_audio_transcription"
        for piece in pieces_of(text):
            await self._send({"type": f"{prefix}.delta", "delta": piece} | head)
        usage = {"type": "tokens", "input_tokens": round(10 * seconds), "output_tokens": len(text.split())}
        usage["total_tokens"] = round(10 * seconds) + len(text.split())
        await self._send({"type": f"{prefix}.completed", "transcript": text, "usage": usage} | head)

    def _reset(self) -> None:
        self._detector.stop()
        self._item, self._has_sound, self._bytes = None, False, 0

    async def _notify(self, what: str, **fields: Any) -> None:
        await self._send({"type": f"input_audio_buffer.{what}", "item_id": self._item} | fields)
