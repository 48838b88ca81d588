"""Text that the caller types: a turn like a spoken one. LiveKit's clients send it on the topic `lk.chat`."""

from typing import Any, Final

import structlog
from livekit.agents import AgentSession
from livekit.agents.types import TOPIC_CHAT
from livekit.agents.voice.room_io import TextInputEvent

log = structlog.get_logger(__name__)

MAX_CHARACTERS: Final = 4_000


async def hear_text(session: AgentSession[Any], event: TextInputEvent) -> None:
    """Answer a text of the caller; speech that may be interrupted is, other speech ends first.

    A text that is too long is answered by an error on the same topic. LiveKit passes on no other
    participant's texts.
    """
    text = event.text.strip()
    if not text:
        return
    if len(text) > MAX_CHARACTERS:
        await _refuse(session, event, len(text))
        return
    async with session._claim_user_turn():  # as LiveKit's own does: the user's state is `speaking` meanwhile
        try:
            await session.interrupt()
        except RuntimeError:
            log.info("chat.waits", reason="the agent cannot be interrupted")
        session.generate_reply(user_input=text)


async def _refuse(session: AgentSession[Any], event: TextInputEvent, length: int) -> None:
    log.warning("chat.too_long", characters=length, allowed=MAX_CHARACTERS)
    if event.participant is not None:
        room = session.room_io.room
        await room.local_participant.send_text(
            f"Your message has {length} characters; {MAX_CHARACTERS} are allowed.",
            topic=TOPIC_CHAT,
            destination_identities=[event.participant.identity],
        )
