"""Check the agents of a flow: whom they hand over to, and that each can be reached."""

from collections.abc import Iterator

from antiphon.agent_worker.flow.call import KeyAction, dialled
from antiphon.agent_worker.flow.check.catalog import Fault
from antiphon.agent_worker.flow.check.script import placed_rules
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.script import Rule
from antiphon.agent_worker.flow.suggest import unknown


def check_agents(flow: Flow) -> list[Fault]:
    """Return what is wrong with the agents."""
    faults = [*_targets(flow), *_numbers(flow)]
    if flow.entry is not None and flow.entry not in flow.agents:
        faults.append((("entry",), unknown("agent", flow.entry, flow.agents)))
    return faults or [*_unreachable(flow), *_greeting(flow)]


def _targets(flow: Flow) -> Iterator[Fault]:
    for path, source, target in _hand_offs(flow):
        if target not in flow.agents:
            yield path, unknown("agent", target, flow.agents)
        elif target == source:
            yield path, f"{target!r} hands off to itself"
    for path, person in _transfers(flow):
        if person not in flow.transfers:
            yield path, unknown("transfer", person, flow.transfers)


def _numbers(flow: Flow) -> Iterator[Fault]:
    for person, transfer in flow.transfers.items():
        if "{" in transfer.to:  # known in the call
            continue
        try:
            dialled(transfer.to)
        except ValueError as error:
            yield ("transfers", person, "to"), str(error)


def _hand_offs(flow: Flow) -> Iterator[tuple[Path, str | None, str]]:
    """Yield where a hand-off is, the agent that hands over (None: any), and the one that takes over."""
    for name, agent in flow.agents.items():
        for target in agent.hand_offs:
            yield ("agents", name, "hand_offs", target), name, target
    for path, source, action in _actions(flow):
        if action.hand_off is not None:
            yield (*path, "hand_off"), source, action.hand_off


def _transfers(flow: Flow) -> Iterator[tuple[Path, str]]:
    for name, agent in flow.agents.items():
        for index, person in enumerate(agent.transfers or []):
            yield ("agents", name, "transfers", index), person
    for path, _, action in _actions(flow):
        if action.transfer is not None:
            yield (*path, "transfer"), action.transfer


def _actions(flow: Flow) -> Iterator[tuple[Path, str | None, Rule | KeyAction]]:
    for placed in placed_rules(flow):
        yield placed.path, placed.agent, placed.rule
    for key, action in (flow.dtmf.keys if flow.dtmf else {}).items():
        yield ("dtmf", "keys", key), None, action


def _unreachable(flow: Flow) -> Iterator[Fault]:
    targets: dict[str | None, set[str]] = {}
    for _, source, target in _hand_offs(flow):
        targets.setdefault(source, set()).add(target)
    reached = {flow.first} | targets.get(None, set())
    waiting = [*reached]
    while waiting:
        following = targets.get(waiting.pop(), set()) - reached
        reached |= following
        waiting += following
    for name in flow.agents:
        if name not in reached:
            yield (
                ("agents", name),
                f"no agent that can be reached from {flow.first!r} hands off to this agent",
            )


def _greeting(flow: Flow) -> Iterator[Fault]:
    if flow.greeting is None and flow.voice_of(flow.first).realtime is None:
        yield ("agents", flow.first), "the agent that answers the call needs a `greeting`"
