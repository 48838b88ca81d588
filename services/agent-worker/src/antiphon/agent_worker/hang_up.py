"""The agent hangs up: it finishes its sentence, says the closing text of the flow, and closes the session."""

import asyncio
from typing import Any, Final

import structlog
from livekit.agents import AgentSession

from antiphon.agent_worker.call import Call, speak
from antiphon.contracts.events.session import CloseReason

log = structlog.get_logger(__name__)

SENTENCE_SECONDS: Final = 10.0  # for what the agent is saying
LAST_WORDS_SECONDS: Final = 30.0


def hang_up(
    call: Call,
    session: AgentSession[Any],
    reason: CloseReason,
    text: str | None,
    *,
    detail: str | None = None,
    at_once: bool = False,
) -> None:
    """End a call for a reason, after a text; with `at_once` a sentence of the agent is cut.

    Only the first reason counts: a call that is being ended stays as it is.
    """
    if call.ending is not None:
        return
    log.info("call.hang_up", reason=reason.value)
    call.silent = True
    call.record.ends_for(reason, detail)
    call.ending = asyncio.create_task(_hang_up(call, session, text, at_once), name="hang-up")


async def _hang_up(call: Call, session: AgentSession[Any], text: str | None, at_once: bool) -> None:
    try:
        await _finish_sentence(session, 0.0 if at_once else SENTENCE_SECONDS)
        if text is not None:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await speak(session, text, interruptible=False)
    except TimeoutError:
        log.warning("call.last_words_timeout")
    except Exception as error:  # noqa: BLE001 - a voice that fails must not keep the call
        log.warning("call.last_words_failed", error=type(error).__name__, pii_error=str(error))
    finally:
        if call.bound.tools is not None:
            call.bound.tools.stop()  # the caller would wait for them, on a dead line
        session.shutdown(drain=False)


async def _finish_sentence(session: AgentSession[Any], seconds: float) -> None:
    speech = session.current_speech
    if speech is None:
        return
    try:
        async with asyncio.timeout(seconds):
            await speech.wait_for_playout()
    except TimeoutError:
        async with asyncio.timeout(SENTENCE_SECONDS):
            await session.interrupt(force=True)
