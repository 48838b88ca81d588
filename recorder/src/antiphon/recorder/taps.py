"""Taps on LiveKit's objects, and the guard around every handler that is called from them.

A tap replaces a method on one object, so it works on objects made elsewhere and patches no class.
"""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar
from weakref import ref

from livekit.agents import Agent, AgentSession, JobContext, llm
from livekit.api import LiveKitAPI

from antiphon.chassis.library_log import get_logger
from antiphon.recorder.livekit_internals import available, current_speech

log = get_logger(__name__)

OnText = Callable[[str, str], None]  # speech id, text

T = TypeVar("T")


class ErrorGuard:
    """A wrapper that keeps the recorder's errors out of the framework.

    LiveKit's emitter raises a handler's TypeError into the call.
    """

    def __init__(self) -> None:
        self.errors = 0

    def wrap(self, name: str, handler: Callable[..., object]) -> Callable[..., None]:
        """Return the handler so that it returns None, and logs and counts what it raises."""

        def guarded(*arguments: object) -> None:
            try:
                handler(*arguments)
            except Exception:
                self.errors += 1
                log.exception("recorder.handler_failed", extra={"handler": name, "errors": self.errors})

        return guarded


def tap_session(session: AgentSession[Any], on_event: Callable[[str, Any], None]) -> Callable[[], None]:
    """Call `on_event` with every event of a session, before its own listeners; return what ends that."""
    listeners, is_first = _listeners(session, "emit", on_event)
    if is_first and available("emit"):
        forward = session.emit

        def emit(event: Any, *arguments: Any) -> None:
            for listener in list(listeners):
                listener(event, *arguments)
            forward(event, *arguments)

        vars(session)["emit"] = emit
    return partial(listeners.remove, on_event)


def tap_aclose(session: AgentSession[Any], on_aclose: Callable[[], None]) -> Callable[[], None]:
    """Call `on_aclose` whenever `session.aclose` is called, in the same task; return what ends that."""
    listeners, is_first = _listeners(session, "aclose", on_aclose)
    if is_first and available("aclose"):
        vars(session)["aclose"] = _called_before(session.aclose, partial(_call, listeners))
    return partial(listeners.remove, on_aclose)


def tap_shutdown(ctx: JobContext, on_shutdown: Callable[[], None]) -> Callable[[], None]:
    """Call `on_shutdown` whenever the job's code calls `ctx.shutdown`; return what ends that."""
    listeners, is_first = _listeners(ctx, "shutdown", on_shutdown)
    if is_first and available("shutdown"):
        vars(ctx)["shutdown"] = _called_before(ctx.shutdown, partial(_call, listeners))
    return partial(listeners.remove, on_shutdown)


def tap_hang_up(ctx: JobContext, on_hang_up: Callable[[], None]) -> Callable[[], None]:
    """Call `on_hang_up` whenever the job's code deletes the room or removes a participant.

    This covers `ctx.delete_room` and `ctx.api`, and no other client of LiveKit's API. Returns what ends it.
    """
    listeners, is_first = _listeners(ctx, "hang_up", on_hang_up)
    if is_first:
        _tap_hang_up(ctx, partial(_call, listeners))
    return partial(listeners.remove, on_hang_up)


def _listeners(target: object, of: str, listener: T) -> tuple[list[T], bool]:
    """Add a listener to an object; return all of them, and whether it is the first: tap it then, once."""
    name, attributes = f"_antiphon_{of}", vars(target)
    is_first = name not in attributes
    listeners: list[T] = attributes.setdefault(name, [])
    listeners.append(listener)
    return listeners, is_first


def _call(listeners: list[Callable[[], None]]) -> None:
    for listener in list(listeners):
        listener()


def _tap_hang_up(ctx: JobContext, on_hang_up: Callable[[], None]) -> None:
    vars(ctx)["delete_room"] = _called_before(ctx.delete_room, on_hang_up)
    if not available("api"):
        return

    def tapped(api: LiveKitAPI) -> LiveKitAPI:
        for name in ("delete_room", "remove_participant"):
            vars(api.room)[name] = _called_before(getattr(api.room, name), on_hang_up)
        return api

    if "api" in vars(ctx):
        tapped(ctx.api)
        return

    # made when it is first read, which takes tens of milliseconds: not for an agent that does not use it
    class Tapped(type(ctx)):  # type: ignore[misc] # the class of a job's context
        @cached_property
        def api(self) -> LiveKitAPI:
            return tapped(super().api)

    Tapped.__name__ = Tapped.__qualname__ = type(ctx).__name__
    ctx.__class__ = Tapped


def _called_before(method: Callable[..., Any], action: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        action()
        return method(*arguments, **options)

    return call


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class AgentListener:
    """What receives an agent's text, and the end of its `on_enter` with the agent's id and the error."""

    on_model_text: OnText
    on_spoken_text: OnText
    on_transcript: OnText
    on_entered: Callable[[str, Exception | None], None]


def tap_agent(agent: Agent, listener: AgentListener) -> None:
    """Let a listener receive what an agent says, as long as there are other references to the listener.

    A model's text passes `llm_node`; text given to `session.say` passes only `transcription_node`, and what
    that returns is the transcript. The agent's own overrides of these methods are called as before.
    """
    listeners, is_first = _listeners(agent, "listeners", ref(listener))
    listeners[:] = dict.fromkeys(known for known in listeners if known() is not None)
    if not is_first:
        return

    def call(name: str, *arguments: object) -> None:
        for known in [reference() for reference in listeners]:
            if known is not None:
                getattr(known, name)(*arguments)

    attributes = vars(agent)
    if available("llm_node"):
        attributes["llm_node"] = _tapped_llm_node(agent.llm_node, partial(call, "on_model_text"))
    if available("transcription_node"):
        attributes["transcription_node"] = _tapped_transcription_node(
            agent.transcription_node, partial(call, "on_spoken_text"), partial(call, "on_transcript")
        )
    if available("on_enter"):
        attributes["on_enter"] = _tapped_on_enter(agent.on_enter, partial(call, "on_entered", agent.id))


def _tapped_llm_node(node: Callable[..., Any], on_text: OnText) -> Callable[..., Any]:
    # no coroutine function, as LiveKit's is none: code that overrides or calls it iterates over its result
    def llm_node(*arguments: Any, **options: Any) -> Any:
        speech = current_speech()
        result = node(*arguments, **options)
        if speech is None:
            return result
        if inspect.iscoroutine(result):
            return _tapped_result(result, speech, on_text)
        return _tapped(result, speech, on_text)

    return llm_node


def _tapped_transcription_node(
    node: Callable[..., Any], on_text: OnText, on_transcript: OnText
) -> Callable[..., Any]:
    def transcription_node(text: AsyncIterable[str], *arguments: Any, **options: Any) -> Any:
        speech = current_speech()
        if speech is None:
            return node(text, *arguments, **options)
        result = node(_tapped_stream(text, speech, on_text), *arguments, **options)
        if inspect.iscoroutine(result):
            return _tapped_result(result, speech, on_transcript)
        return _tapped(result, speech, on_transcript)

    return transcription_node


def _tapped_on_enter(
    on_enter: Callable[[], Any], on_entered: Callable[[Exception | None], None]
) -> Callable[[], Any]:
    async def tapped() -> None:
        error: Exception | None = None
        try:
            await on_enter()
        except Exception as raised:
            error = raised
            raise
        finally:
            on_entered(error)

    return tapped


async def _tapped_result(result: Coroutine[Any, Any, Any], speech: str, on_text: OnText) -> Any:
    return _tapped(await result, speech, on_text)


def _tapped(result: Any, speech: str, on_text: OnText) -> Any:
    if isinstance(result, str):
        on_text(speech, result)
    return _tapped_stream(result, speech, on_text) if isinstance(result, AsyncIterable) else result


async def _tapped_stream(chunks: AsyncIterable[Any], speech: str, on_text: OnText) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            if text := _text_of(chunk):
                on_text(speech, text)
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
