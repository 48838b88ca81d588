"""The newest audio of a call that no recogniser has understood yet."""

from collections import deque
from typing import Any, Final

from livekit import rtc
from livekit.agents import stt

UTTERANCE_SECONDS: Final = 10.0  # of speech that is kept, beside the time that a recogniser has to fail


class Unheard:
    """Audio and its marks in order, the oldest dropped beyond some seconds."""

    def __init__(self, seconds: float) -> None:
        self._most = seconds
        self._items: deque[Any] = deque()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """How much audio it holds."""
        return self._seconds

    def add(self, item: Any) -> None:
        """Add a frame, or the mark of a flush."""
        self._items.append(item)
        self._seconds += _seconds_of(item)
        while self._seconds > self._most:
            self._seconds -= _seconds_of(self._items.popleft())

    def clear(self) -> None:
        """Forget it: it was understood."""
        self._items.clear()
        self._seconds = 0.0

    def replay(self, stream: stt.RecognizeStream) -> None:
        """Give it to a recogniser that takes over."""
        for item in self._items:
            push(stream, item)


def push(stream: stt.RecognizeStream, item: Any) -> None:
    """Give a stream one frame, or the mark of a flush."""
    if isinstance(item, rtc.AudioFrame):
        stream.push_frame(item)
    else:
        stream.flush()


def _seconds_of(item: Any) -> float:
    return item.duration if isinstance(item, rtc.AudioFrame) else 0.0
