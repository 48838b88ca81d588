"""The one tap on a session: every event passes `AgentSession.emit`, from start-up to close."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from livekit.agents import AgentSession


def tap_session(session: AgentSession[Any], listen: Callable[[str, Any], None]) -> None:
    """Let `listen` hear every event of a session before its own listeners do.

    The override is on the object, so that it works on a session that somebody else has made.
    """
    forward = session.emit

    def emit(event: Any, argument: Any) -> None:
        listen(event, argument)
        forward(event, argument)

    vars(session)["emit"] = emit


def tap_close(session: AgentSession[Any], listen: Callable[[str], None]) -> None:
    """Let `listen` hear the name of the task that closes a session by `aclose`.

    LiveKit gives one reason for a session that code closes and for one that it closes itself because the
    worker goes; but what it does itself, it does in a task of its own.
    """
    close = session.aclose

    def aclose() -> Coroutine[Any, Any, None]:
        task = asyncio.current_task()
        listen(task.get_name() if task else "")
        return close()

    vars(session)["aclose"] = aclose
