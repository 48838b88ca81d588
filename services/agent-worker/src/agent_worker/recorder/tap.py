"""The one tap on a session: every event passes `AgentSession.emit`, from start-up to close."""

from collections.abc import Callable
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
