"""Which speech a piece of the framework's work belongs to.

LiveKit's events do not say it, but every task that serves a speech carries it in a context variable. It is
private to the framework; tests hold us to its being there.
"""

from livekit.agents.voice.agent_activity import _SpeechHandleContextVar


def current_speech() -> str | None:
    """Return the id of the speech that the running task serves; None when it serves none that still lasts."""
    handle = _SpeechHandleContextVar.get(None)
    return None if handle is None or handle.done() else handle.id


def originating_speech() -> str | None:
    """Return the id of the speech in whose course the running task began, even when that is over."""
    handle = _SpeechHandleContextVar.get(None)
    return None if handle is None else handle.id
