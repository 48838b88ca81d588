"""An answering machine in place of the caller: found by its first words and its length, without a model."""

import asyncio
import re
from typing import Any, Final

import structlog
from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)

from antiphon.agent_worker.call import Call
from antiphon.agent_worker.flow.call import Voicemail
from antiphon.agent_worker.hang_up import hang_up
from antiphon.contracts.events.session import CloseReason

log = structlog.get_logger(__name__)

MOST_WORDS: Final = 25  # of a person who answers, before the agent has said anything
MOST_SECONDS: Final = 7.0  # of speech without a pause; a person says a name and waits
END_SECONDS: Final = 30.0  # for the machine to finish
QUIET_SECONDS: Final = 1.0  # after its last word or tone
LOOK_SECONDS: Final = 0.1

_SAYS_MACHINE: Final = re.compile(
    r"\b(?:voice ?mail|mail ?box|answering machine|automated voice|"
    r"leave (?:me |us )?(?:a|your) (?:short |brief )?(?:message|name)|record your message|"
    r"(?:after|at) the (?:tone|beep|signal)|"
    r"(?:is|am|are) (?:currently )?(?:not available|unavailable)|"
    r"(?:can(?:no|')?t|cannot|unable to) (?:come to the phone|take your call|answer)|"
    r"anrufbeantworter|nach dem (?:signal|piep)ton|hinterlassen sie|sprachbox|"
    r"r[ée]pondeur|apr[èe]s le (?:bip|signal)|laissez un message|"
    r"buz[óo]n de voz|despu[ée]s de la se[ñn]al|deje (?:un|su) mensaje)\b",
    re.IGNORECASE,
)


def says_machine(text: str) -> str | None:
    """Return why a text is that of an answering machine, or None if a person could have said it."""
    return _machine_words(text) or _too_long(text)


def _machine_words(text: str) -> str | None:
    found = _SAYS_MACHINE.search(text.replace("\u2019", "'"))
    return None if found is None else f"it said {found[0]!r}"


def _too_long(text: str) -> str | None:
    words = len(text.split())
    return f"it said {words} words at once" if words > MOST_WORDS else None


class MachineWatch:
    """Listens to the first words of the callee, and ends when its time is over or a machine was found."""

    def __init__(self, call: Call, session: AgentSession[Any], voicemail: Voicemail) -> None:
        self._call = call
        self._session = session
        self._voicemail = voicemail
        self._text = ""
        self._answer = ""  # what it has said since the agent last began to speak
        self._watches = True
        self._leaving: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._over = loop.call_later(voicemail.within_seconds, self._stop)
        self._long: asyncio.TimerHandle | None = None
        session.on("user_input_transcribed", self.on_transcribed)
        session.on("user_state_changed", self.on_user_state)
        session.on("agent_state_changed", self.on_agent_state)
        session.on("close", self._stop)

    def on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """Look for a machine in what was said so far."""
        if not self._watches:
            return
        heard = f"{self._text} {event.transcript}".strip()
        answer = f"{self._answer} {event.transcript}".strip()
        if event.is_final:
            self._text, self._answer = heard, answer
        if (why := _machine_words(heard) or _too_long(answer)) is not None:
            self._found(why)

    def on_agent_state(self, event: AgentStateChangedEvent) -> None:
        """Count the words again when the agent speaks: a person lets it, and talks with it."""
        if event.new_state == "speaking":
            self._answer = ""

    def on_user_state(self, event: UserStateChangedEvent) -> None:
        """Notice a speech that is too long for a person who answers the telephone."""
        if self._long is not None:
            self._long.cancel()
            self._long = None
        if self._watches and event.new_state == "speaking":
            loop = asyncio.get_running_loop()
            self._long = loop.call_later(
                MOST_SECONDS, self._found, f"it spoke for {MOST_SECONDS:g} s without a pause"
            )

    def _stop(self, *_: object) -> None:
        self._watches = False
        self._over.cancel()
        if self._long is not None:
            self._long.cancel()

    def _found(self, why: str) -> None:
        if not self._watches:
            return
        self._stop()
        log.info("call.voicemail", pii_why=why)
        self._call.silent = True
        self._leaving = asyncio.create_task(self._leave(why), name="voicemail")

    async def _leave(self, why: str) -> None:
        """Leave the message once the machine is quiet, and hang up."""
        call, session, say = self._call, self._session, self._voicemail.say
        try:
            await session.interrupt(force=True)
            if say is not None:
                await _until_quiet(session)
        except Exception as error:  # noqa: BLE001 - the call ends in every case
            log.warning("call.voicemail_failed", error=type(error).__name__, pii_error=str(error))
        text = None if say is None else call.bound.text(say)
        hang_up(call, session, CloseReason.VOICEMAIL, text, detail=f"a machine: {why}", at_once=True)


def watch_for_machine(call: Call, session: AgentSession[Any], voicemail: Voicemail) -> MachineWatch:
    """Watch for an answering machine, for as long as the flow says."""
    return MachineWatch(call, session, voicemail)


async def _until_quiet(session: AgentSession[Any]) -> None:
    """Wait until the machine has said nothing for a second, for at most half a minute."""
    quiet = 0.0
    for _ in range(round(END_SECONDS / LOOK_SECONDS)):
        quiet = 0.0 if session.user_state == "speaking" else quiet + LOOK_SECONDS
        if quiet > QUIET_SECONDS:
            return
        await asyncio.sleep(LOOK_SECONDS)
