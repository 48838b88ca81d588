"""The text of the agent's speech that the user has heard so far, read while it plays."""

from typing import Any, Protocol

from livekit.agents import AgentSession

from antiphon.recorder.livekit_internals import transcript_segment


class HeardText:
    """A reader of LiveKit's transcript synchroniser, which knows how much of a text was played."""

    def __init__(self, session: AgentSession[Any]) -> None:
        self._session = session
        self._speech: str | None = None  # that is being played
        self._segment: _Segment | None = None
        self._before = ""  # the text of the answer's earlier segments

    @property
    def is_text_only(self) -> bool:
        """Whether the agent has no voice, so that its text counts as heard as soon as it is written."""
        output = self._session.output
        return output.audio is None or not output.audio_enabled

    @property
    def is_synchronised(self) -> bool:
        """Whether the text that was heard is known while the agent speaks."""
        return self.is_text_only or transcript_segment(self._session) is not None

    def answer_began(self, speech: str) -> None:
        """Read from now on what a speech plays."""
        if speech != self._speech:
            self._speech, self._before = speech, ""
            self._segment = transcript_segment(self._session)

    def answer_ended(self) -> None:
        """Read nothing until the next answer begins."""
        self._speech = self._segment = None

    def read(self) -> tuple[str, str] | None:
        """Return the speech that is being played and what was heard of its answer; None if there is none."""
        if self._speech is None:
            return None
        segment: _Segment | None = transcript_segment(self._session)
        if segment is not None and segment is not self._segment:
            self._before += _text(self._segment)
            self._segment = segment
        return self._speech, self._before + _text(self._segment)


class _Segment(Protocol):
    @property
    def synchronized_transcript(self) -> str: ...


def _text(segment: _Segment | None) -> str:
    return "" if segment is None else segment.synchronized_transcript
