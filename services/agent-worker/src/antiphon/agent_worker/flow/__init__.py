"""Flow files: their schema and checks, and the scripted dialogue that they define."""

from antiphon.agent_worker.flow.check import ProviderCatalog
from antiphon.agent_worker.flow.load import FlowProblem, InvalidFlow, load_flow
from antiphon.agent_worker.flow.model import Flow

__all__ = ["Flow", "FlowProblem", "InvalidFlow", "ProviderCatalog", "load_flow"]
