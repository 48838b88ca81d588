"""Flows of one agent with a voice, for tests of providers."""

from textwrap import indent

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind

HEAD = "id: small\nname: small\ndescription: small\n"
AGENTS = "agents:\n  host: {instructions: Be brief., greeting: Hello there.}\n"


def source(voice: str, rest: str = AGENTS) -> str:
    """Return a flow file with the content of its `voice:`."""
    return f"{HEAD}voice:\n{indent(voice.strip(), '  ')}\n{rest}"


def with_voice(voice: str, rest: str = AGENTS) -> BoundFlow:
    """Return a checked flow with the content of its `voice:`, bound to a session."""
    return bind(load_flow(source(voice, rest), CATALOG), CATALOG)


def reasons(voice: str) -> list[str]:
    """Return what is wrong with the content of a `voice:`, as `place: reason`."""
    try:
        load_flow(source(voice), CATALOG)
    except InvalidFlow as invalid:
        return [f"{problem.place}: {problem.reason}" for problem in invalid.problems]
    return []


def flow_of(voice: str) -> Flow:
    """Return a checked flow with the content of its `voice:`."""
    return with_voice(voice).flow
