"""Try a flow: bind it to metadata, and talk with its real models in text."""

import logging
from collections.abc import Mapping
from typing import Any

import structlog

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.conversation.text import TextConversation
from antiphon.agent_worker.flow.bound import bind
from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.flow.variables import MissingVariable
from antiphon.agent_worker.providers.entry import ProviderProblem
from antiphon.agent_worker.providers.loaded import import_plugins
from antiphon.agent_worker.providers.table import LlmFactory
from antiphon.agent_worker.providers.voices import llm_factory

SCRIPTED = "offline"


class CannotTry(Exception):
    """The flow cannot be tried in text; the message says why."""


def trial(flow: Flow, metadata: Mapping[str, Any], variables: Mapping[str, Any]) -> TextConversation:
    """Return a conversation with a flow, by its real models and tools. Raises CannotTry."""
    try:
        bound = bind(flow, CATALOG, metadata=metadata, variables=variables)
    except MissingVariable as error:
        raise CannotTry(f"{error}: pass --metadata or --variable NAME=VALUE") from error
    except ToolProblem as error:
        raise CannotTry(str(error)) from error
    return TextConversation(bound, real_models(flow))


def real_models(flow: Flow) -> LlmFactory:
    """Return the factory of the models that a flow names. Raises CannotTry."""
    models = {agent: flow.voice_of(agent).llm for agent in flow.agents}
    for agent, model in models.items():
        if model is None:
            raise CannotTry(
                f"{agent} has a realtime model, which hears and speaks itself: try {flow.id} by voice"
            )
    if all(model is not None and model.use == SCRIPTED for model in models.values()):
        return ScriptedLLM  # nothing to load
    try:
        import_plugins(flow)
    except ProviderProblem as problem:
        raise CannotTry(str(problem)) from problem
    return llm_factory(flow, {})


def discard_logs() -> None:
    """Log nothing less than critical: in a terminal the conversation itself shows what fails."""
    logging.getLogger("livekit").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
