"""Check what a schema cannot: names exist, texts have values, agents and rules can be reached."""

from antiphon.agent_worker.flow.check.catalog import Catalog, Fault
from antiphon.agent_worker.flow.check.flow import check_flow

__all__ = ["Catalog", "Fault", "check_flow"]
