"""A synthetic caller: it takes part in a session as a person would, with a voice, ears and a notebook."""

from antiphon.caller.call import AgentNeverReady, AgentSilent, Caller
from antiphon.caller.ears import Heard
from antiphon.caller.notebook import DataMessage, Line, StateChange

__all__ = ["AgentNeverReady", "AgentSilent", "Caller", "DataMessage", "Heard", "Line", "StateChange"]
