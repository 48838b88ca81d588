"""What a flow says about the call itself: silence, limits, its end, other people, keys and voicemail."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from antiphon.agent_worker.flow.names import TELEPHONE_KEY, Name, Part, Seconds, Text

KEYS = "0123456789*#ABCD"
_NUMBER = re.compile(r"(?:tel:)?(\+?[0-9*#]{2,32})")
_SEPARATORS = re.compile(r"[ ./()\-\u2010-\u2013\u00a0]")
# no `?` (headers), no `<>"`, no white space, no control character: nothing ends the URI or adds a header
_SIP = re.compile(
    r"sips?:(?:[A-Za-z0-9_.!~*'()&=+$,%\-]{1,128}@)?(?:[A-Za-z0-9.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?(?:;(?:transport=(?:udp|tcp|tls)|user=phone))*"
)


def dialled(text: str) -> str:
    """Return a telephone number as `tel:…`, or a SIP address as it is. Raises ValueError."""
    found = _NUMBER.fullmatch(text if text.startswith("sip") else _SEPARATORS.sub("", text))
    if found is not None:
        return f"tel:{found[1]}"
    if _SIP.fullmatch(text):
        return text
    raise ValueError(
        f"{text[:80]!r} is no number and no SIP address: write +4930123456 or sip:name@host, without headers"
    )


class Silence(Part):
    """What the agent says when the caller is silent."""

    after_seconds: Seconds = Field(default=15.0, le=600, description="How long to wait, in seconds.")
    say: Text = Field(description="What to say.")
    at_most: int = Field(default=2, ge=1, le=10, description="How many times in a row, at most.")


class Limits(Part):
    """The limits of a call."""

    call_seconds: Seconds = Field(default=3600.0, le=86_400, description="The longest call.")
    silence_seconds: Seconds | None = Field(
        default=None, le=3600, description="Hang up when neither has spoken for so long."
    )
    hand_offs: int = Field(default=20, ge=1, le=1000, description="Hand-offs in one call.")
    tool_calls: int = Field(default=3, ge=1, le=50, description="Tool calls in a row before an answer.")


class Ending(Part):
    """What the caller hears before the agent hangs up."""

    on_limit: Text | None = Field(default=None, description="When the call has reached its longest time.")
    on_silence: Text | None = Field(default=None, description="When nobody has spoken for too long.")
    on_failure: Text | None = Field(default=None, description="When the call cannot go on.")


class Transfer(Part):
    """A person who can take over the call, by telephone."""

    to: Text = Field(description="A number (`tel:+49…`) or a SIP address (`sip:name@host`).")
    when: Text | None = Field(default=None, description="When the model transfers the caller.")
    say: Text | None = Field(default=None, description="What the caller hears first.")
    on_failure: Text | None = Field(default=None, description="What the caller hears if it fails.")


class KeyAction(Part):
    """What a key of the telephone does: one of these."""

    say: Text | None = Field(default=None, description="A text that the agent speaks.")
    hear: Text | None = Field(default=None, description="Words, as if the caller had said them.")
    hand_off: Name | None = Field(default=None, description="The agent that takes over.")
    transfer: Name | None = Field(default=None, description="The person who takes over.")
    end: Literal[True] | None = Field(default=None, description="End the call.")

    @model_validator(mode="after")
    def _one(self) -> "KeyAction":
        given = [name for name, value in self if value is not None and name != "say"]
        if len(given) > 1 or (not given and self.say is None):
            raise ValueError("a key has one of hear, hand_off, transfer and end; or say alone")
        return self


def _hear(given: Any) -> Any:
    return {"hear": given} if isinstance(given, str) else given


Key = Annotated[str, Field(pattern=TELEPHONE_KEY)]
Action = Annotated[KeyAction, BeforeValidator(_hear, json_schema_input_type=str | KeyAction)]


class Dtmf(Part):
    """The keys of the telephone as input."""

    keys: dict[Key, Action] = Field(
        default={}, description="What a key does; a text is heard as if it was said."
    )
    collect: bool = Field(default=False, description="Whether keys are gathered to a number, as words.")
    pause_seconds: Seconds = Field(default=2.0, le=30, description="A number ends after this pause, or at #.")


class Voicemail(Part):
    """What the agent does when a machine answers: leaves a message, or hangs up."""

    say: Text | None = Field(default=None, description="The message; without it the agent hangs up.")
    within_seconds: Seconds = Field(default=10.0, le=60, description="How long to listen for a machine.")
