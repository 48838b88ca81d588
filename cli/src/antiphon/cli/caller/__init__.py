"""A synthetic caller: it takes part in a session as a person would, with a voice, ears and a notebook."""

from antiphon.cli.caller.call import AgentNeverReady, AgentSilent, Caller
from antiphon.cli.caller.ears import Heard
from antiphon.cli.caller.notebook import DataMessage, Line, StateChange

__all__ = ["AgentNeverReady", "AgentSilent", "Caller", "DataMessage", "Heard", "Line", "StateChange"]
