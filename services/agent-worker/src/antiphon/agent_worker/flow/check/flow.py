"""All checks of a flow."""

from antiphon.agent_worker.flow.check.agents import check_agents
from antiphon.agent_worker.flow.check.catalog import Catalog, Fault
from antiphon.agent_worker.flow.check.expectations import check_expectations
from antiphon.agent_worker.flow.check.script import check_script
from antiphon.agent_worker.flow.check.texts import check_texts
from antiphon.agent_worker.flow.check.tools import check_tools
from antiphon.agent_worker.flow.check.turns import check_turns
from antiphon.agent_worker.flow.check.voices import check_voices
from antiphon.agent_worker.flow.model import Flow


def check_flow(flow: Flow, catalog: Catalog) -> list[Fault]:
    """Return everything that is wrong with a flow that matches its schema."""
    faults = [*check_agents(flow), *check_voices(flow, catalog)]
    faults += check_turns(flow)
    faults += check_tools(flow, catalog)
    faults += check_texts(flow, catalog)
    faults += check_script(flow, catalog)
    faults += check_expectations(flow)
    return faults
