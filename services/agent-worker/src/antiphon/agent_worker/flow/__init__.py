"""Flow files: their schema and checks, and the scripted dialogue that they define."""

from antiphon.agent_worker.flow.check import Catalog
from antiphon.agent_worker.flow.document import FlowProblem, InvalidFlow
from antiphon.agent_worker.flow.load import load_flow
from antiphon.agent_worker.flow.model import Flow

__all__ = ["Catalog", "Flow", "FlowProblem", "InvalidFlow", "load_flow"]
