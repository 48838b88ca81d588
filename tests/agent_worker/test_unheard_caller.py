"""When a recogniser that gives no words is given up."""

from typing import Any

import pytest
from livekit.agents.voice.events import UserTranscriptionTimeoutEvent

from antiphon.agent_worker.unheard_caller import TOGETHER_SECONDS, UnheardCaller


class Session:
    """What UnheardCaller asks of a session."""

    agent_state = "listening"

    def on(self, *_: Any) -> None:
        """Register nothing: the test calls the listener."""


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(UnheardCaller, "_give_up", lambda _: found.append(1))
    return found


def _timeout(seconds: float) -> UserTranscriptionTimeoutEvent:
    return UserTranscriptionTimeoutEvent(speech_duration=seconds, vad_speech_started_at=1.0)


def _sounds(caller: UnheardCaller, *seconds: float) -> None:
    """Let sounds without words pass; LiveKit adds up those of a turn, which ends with its words."""
    for so_far in seconds:
        caller._on_timeout(_timeout(so_far))


def test_short_sounds_are_not_taken_for_speech(given_up: list[int]) -> None:
    _sounds(UnheardCaller(Session()), 0.1, 0.2)  # type: ignore[arg-type]

    assert given_up == []


def test_short_sounds_after_speech_without_words_do_not_give_up_the_next_recogniser(
    given_up: list[int],
) -> None:
    caller = UnheardCaller(Session())  # type: ignore[arg-type]
    _sounds(caller, 1.0, 2.0)
    assert given_up == [1]

    _sounds(caller, 2.1, 2.2)
    assert given_up == [1]
    _sounds(caller, 3.6)
    assert given_up == [1, 1]


def test_sounds_that_are_far_apart_do_not_count_together(given_up: list[int]) -> None:
    caller = UnheardCaller(Session())  # type: ignore[arg-type]
    first = _timeout(1.0)
    caller._on_timeout(first)
    later = _timeout(2.0)
    later.created_at = first.created_at + TOGETHER_SECONDS + 1
    caller._on_timeout(later)

    assert given_up == []
