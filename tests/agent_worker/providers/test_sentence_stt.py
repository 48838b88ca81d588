"""Which sentences over the agent's speech interrupt it."""

from typing import Any

import pytest
from livekit.agents import AgentSession

from antiphon.agent_worker.providers.sentence_stt import interrupts, may_be_interrupted, session_of_job
from antiphon.agent_worker.providers.sphinx_stt import UNCLEAR


def session(min_words: int, *, resume: bool) -> AgentSession[Any]:
    interruption: Any = {"min_words": min_words, "resume_false_interruption": resume}
    return AgentSession(vad=None, turn_handling={"turn_detection": "manual", "interruption": interruption})


@pytest.mark.parametrize(
    ("text", "min_words", "resume", "expected"),
    [
        ("stop", 0, True, True),
        ("stop", 2, True, False),
        ("stop please", 2, True, True),
        (UNCLEAR, 0, True, False),
        (UNCLEAR, 0, False, True),
    ],
)
async def test_sentence_interrupts(text: str, min_words: int, resume: bool, expected: bool) -> None:
    assert interrupts(session(min_words, resume=resume), text) is expected


async def test_nothing_is_interrupted_while_the_agent_is_silent() -> None:
    assert may_be_interrupted(session(0, resume=True)) is False


def test_outside_a_job_there_is_no_session() -> None:
    assert session_of_job() is None
