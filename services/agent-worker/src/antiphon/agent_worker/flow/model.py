"""The schema of a flow file. The field descriptions are published in flows/flow.schema.json."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from antiphon.agent_worker.flow.call import Dtmf, Ending, Limits, Silence, Transfer, Voicemail
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.flow.expect import Conversation
from antiphon.agent_worker.flow.names import FLOW_ID, GIVEN_NAME, LANGUAGE, Name, Names, Part, Text
from antiphon.agent_worker.flow.script import Rule, Script, Value
from antiphon.agent_worker.flow.turns import Turns
from antiphon.agent_worker.flow.voice import OFFLINE, Voice

DEFAULT_APOLOGY = "I am sorry, I have a technical problem."


def _hand_offs(given: Any) -> Any:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return {name: {} for name in given}
    return given


class HandOff(Part):
    """How an agent hands the caller over to another one."""

    when: Text | None = Field(default=None, description="When the model hands over; by default its purpose.")
    say: Text | None = Field(default=None, description="What the caller hears first.")
    context: Literal["keep", "cut"] = Field(
        default="keep", description="Whether the next agent knows what was said before."
    )


HandOffs = Annotated[
    dict[Name, HandOff],
    BeforeValidator(_hand_offs, json_schema_input_type=Names | dict[Name, HandOff]),
]


class VariableDefinition(Part):
    """A value of the session's `metadata` or `variables`."""

    default: Value | None = Field(default=None, description="Its value when the session has none.")
    required: Literal[True] | None = Field(default=None, description="A session without it is refused.")


def _default(given: Any) -> Any:
    return {"default": given} if isinstance(given, str | int) and not isinstance(given, bool) else given


GivenName = Annotated[str, Field(pattern=GIVEN_NAME)]
Variable = Annotated[
    VariableDefinition,
    BeforeValidator(_default, json_schema_input_type=Value | VariableDefinition),
]


class AgentDefinition(Part):
    """One agent of the flow."""

    instructions: Text = Field(description="The purpose of this agent, and how it behaves.")
    greeting: Text | None = Field(default=None, description="The first thing it says.")
    tools: Names | None = Field(default=None, description="The tools that its model may call.")
    hand_offs: HandOffs = Field(default={}, description="The agents to which its model may hand over.")
    transfers: Names | None = Field(default=None, description="The people to whom its model may transfer.")
    voice: Voice | None = Field(default=None, description="Where its voice differs from the flow's.")
    script: Script = Field(default=Script(), description="Its own script, before that of all agents.")


class Flow(Part):
    """What an agent says and does."""

    id: str = Field(pattern=FLOW_ID, description="The id of the flow in the API.")
    name: Text = Field(description="A name for people.")
    description: Text = Field(description="What it does, in a sentence.")
    language: str = Field(default="en", pattern=LANGUAGE, description="The language of the callers (BCP 47).")
    time_zone: Text = Field(default="UTC", description="Of {now.date} and the like, as Europe/Berlin.")
    variables: dict[GivenName, Variable] = Field(
        default={}, description="What texts use of the session's metadata and variables, and the defaults."
    )
    voice: Voice = Field(default=OFFLINE, description="How the agents hear, think and speak.")
    turns: Turns = Field(default=Turns(), description="How the agent and the caller take turns.")
    silence: Silence | None = Field(default=None, description="What to say to a silent caller.")
    limits: Limits = Field(default=Limits(), description="How long a call may be, and the like.")
    ending: Ending = Field(default=Ending(), description="What the caller hears before the end.")
    transfers: dict[Name, Transfer] = Field(default={}, description="The people who can take over.")
    dtmf: Dtmf | None = Field(default=None, description="The keys of the telephone as input.")
    voicemail: Voicemail | None = Field(default=None, description="What to do when a machine answers.")
    tools: dict[Name, ToolDefinition] = Field(default={}, description="The tools, by name.")
    entry: Name | None = Field(default=None, description="The agent that answers; by default the first.")
    agents: dict[Name, AgentDefinition] = Field(min_length=1, description="The agents, by name.")
    script: Script = Field(default=Script(), description="The script of all agents, after their own.")
    expect: list[Conversation] = Field(default=[], description="Conversations that the flow is tested with.")

    @property
    def first(self) -> str:
        """The name of the agent that answers the call."""
        return self.entry or next(iter(self.agents))

    @property
    def greeting(self) -> str | None:
        """The greeting of the agent that answers, a template."""
        return self.agents[self.first].greeting

    @property
    def scripted(self) -> bool:
        """Whether there are rules."""
        return bool(self.script.rules or any(agent.script.rules for agent in self.agents.values()))

    @property
    def slots(self) -> dict[str, dict[str, Value]]:
        """The slots of all scripts."""
        return {name: values for script in self._scripts() for name, values in script.slots.items()}

    @property
    def phrases(self) -> dict[str, list[str]]:
        """The phrases of all scripts."""
        return {name: texts for script in self._scripts() for name, texts in script.phrases.items()}

    def rules_of(self, agent: str) -> list[Rule]:
        """Return the rules of an agent, in order of precedence."""
        return [*self.agents[agent].script.rules, *self.script.rules]

    def fallback_of(self, agent: str) -> str | None:
        """Return what an agent answers when no rule applies, a template."""
        return self.agents[agent].script.fallback or self.script.fallback

    def voice_of(self, agent: str) -> Voice:
        """Return the voice of an agent."""
        own = self.agents[agent].voice
        voice = self.voice if self.voice.realtime is not None else self.voice.over(_DETECTION)
        return voice if own is None else own.over(voice)

    def _scripts(self) -> list[Script]:
        return [self.script, *(agent.script for agent in self.agents.values())]


_DETECTION = Voice.model_construct(vad=OFFLINE.vad)
