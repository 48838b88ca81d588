"""Check the conversations that a flow expects: the names in them."""

from collections.abc import Collection, Iterator

from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.flow.check.catalog import Fault
from antiphon.agent_worker.flow.expect import Conversation, Step
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.suggest import unknown


def check_expectations(flow: Flow) -> Iterator[Fault]:
    """Yield what is wrong with the expectations."""
    names: set[str] = set()
    tools = _tools(flow)
    for number, conversation in enumerate(flow.expect):
        path: Path = ("expect", number)
        if conversation.name in names:
            yield (*path, "name"), "another conversation has this name"
        names.add(conversation.name)
        if tools is not None:
            for tool in conversation.tools:
                if tool not in tools:
                    yield (*path, "tools", tool), unknown("tool", tool, tools)
        yield from _steps(flow, path, conversation, tools)


def _steps(
    flow: Flow, path: Path, conversation: Conversation, tools: Collection[str] | None
) -> Iterator[Fault]:
    known = None if tools is None else [*tools, END_CALL, *map(hand_off_tool, flow.agents)]
    for index, step in enumerate(conversation.steps):
        place: Path = (*path, "steps", index)
        if step.hands_off_to is not None and step.hands_off_to not in flow.agents:
            yield (*place, "hands_off_to"), unknown("agent", step.hands_off_to, flow.agents)
        if step.keys is not None and flow.dtmf is None:
            yield (*place, "keys"), "the flow has no `dtmf`: it does not listen to keys"
        if index > 0 and step.caller is None and step.keys is None and flow.silence is None:
            yield place, "needs a `caller`: the flow has no `silence`, so nothing follows on one"
        for where, tool in _named(step):
            if known is not None and tool not in known:
                yield (*place, *where), unknown("tool", tool, known)


def _named(step: Step) -> Iterator[tuple[Path, str]]:
    """Yield the tools that a step names."""
    for number, tool in enumerate(step.calls or []):
        yield ("calls", number), tool
    for number, answer in enumerate(step.model):
        for tool in answer.call:
            yield ("model", number, "call", tool), tool


def _tools(flow: Flow) -> list[str] | None:
    """Return the names of the tools of a flow; None if only an MCP server knows them all."""
    names = [*map(transfer_tool, flow.transfers)]
    for name, definition in flow.tools.items():
        if definition.mcp is None:
            names.append(name)
        elif definition.mcp.tools is None:
            return None
        else:
            names += definition.mcp.tools
    return names
