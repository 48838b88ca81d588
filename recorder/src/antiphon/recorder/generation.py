"""What the model wants to say, taken where it passes: LiveKit's history keeps only what was heard.

The model's text passes the agent's `llm_node`; words given to `session.say` pass only its
`transcription_node`. Both are wrapped on the one agent object, so that the author's overrides keep working.
"""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from livekit.agents import Agent, llm

from antiphon.recorder.speech import current_speech

Note = Callable[[str, str], None]  # speech, text

_TAPPED = "_antiphon_tapped"


def tap_agent(agent: Agent, *, thought: Note, spoken: Note, entered: Callable[[], None]) -> None:
    """Listen to an agent's text, and to its `on_enter` having returned; once per agent object."""
    attributes = vars(agent)
    if attributes.get(_TAPPED):
        return
    attributes[_TAPPED] = True
    attributes["llm_node"] = _tapped_llm_node(agent.llm_node, thought)
    attributes["transcription_node"] = _tapped_transcription_node(agent.transcription_node, spoken)
    attributes["on_enter"] = _tapped_on_enter(agent.on_enter, entered)


def _tapped_llm_node(node: Callable[..., Any], note: Note) -> Callable[..., Any]:
    async def llm_node(*arguments: Any) -> Any:
        speech = current_speech()
        result = node(*arguments)
        if inspect.iscoroutine(result):
            result = await result
        if speech is None:
            return result
        if isinstance(result, str):
            note(speech, result)
        return _overhear(result, speech, note) if isinstance(result, AsyncIterable) else result

    return llm_node


def _tapped_transcription_node(node: Callable[..., Any], note: Note) -> Callable[..., Any]:
    def transcription_node(text: AsyncIterable[str], *arguments: Any) -> Any:
        speech = current_speech()
        return node(text if speech is None else _overhear(text, speech, note), *arguments)

    return transcription_node


def _tapped_on_enter(on_enter: Callable[[], Any], entered: Callable[[], None]) -> Callable[[], Any]:
    async def tapped() -> None:
        try:
            await on_enter()
        finally:
            entered()

    return tapped


async def _overhear(chunks: AsyncIterable[Any], speech: str, note: Note) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            if text := _text_of(chunk):
                note(speech, text)
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _text_of(chunk: object) -> str | None:
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, llm.ChatChunk) and chunk.delta is not None:
        return chunk.delta.content
    return None
