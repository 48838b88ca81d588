"""Whether the rules of a flow can be followed: what they hear, what they say, what they do."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from antiphon.agent_worker.flow.model import Flow, Rule
from antiphon.agent_worker.flow.phrase import Choice, Slot, walk
from antiphon.agent_worker.flow.problems import Fault, Path, unknown
from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders
from antiphon.agent_worker.flow.tools import TOOLS, Tool


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    rule: Rule


def check_rules(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    """Yield what is wrong with the rules, and with what no rule uses."""
    places = list(_places(flow))
    for place in places:
        yield from _check_names(flow, place, {other.rule.asks for other in places})
        yield from _check_answers(flow, place)
        yield from _check_actions(flow, place)
    yield from _check_plain_texts(flow)
    yield from _check_use(flow, phrases, [place.rule for place in places])


def _places(flow: Flow) -> Iterator[_Place]:
    for name, agent in flow.agents.items():
        for index, rule in enumerate(agent.rules):
            yield _Place(("agents", name, "rules", index), rule)
    for index, rule in enumerate(flow.rules):
        yield _Place(("rules", index), rule)


def _check_names(flow: Flow, place: _Place, asked: set[str | None]) -> Iterator[Fault]:
    for name in place.rule.hear:
        if name not in flow.phrases:
            yield (*place.path, "hear"), unknown("phrase", name, flow.phrases)
    for field in ("needs", "forget"):
        for name in getattr(place.rule, field):
            if name not in flow.slots:
                yield (*place.path, field), unknown("slot", name, flow.slots)
    if place.rule.after is not None and place.rule.after not in asked:
        yield (*place.path, "after"), f"no rule asks {place.rule.after!r}"


def _check_answers(flow: Flow, place: _Place) -> Iterator[Fault]:
    tool = TOOLS.get(place.rule.call or "")
    outputs = tool.outputs if tool else ()
    yield from _check_text(place, "say", [*place.rule.needs, *outputs])
    yield from _check_text(place, "on_failure", place.rule.needs)


def _check_text(place: _Place, field: str, known: list[str]) -> Iterator[Fault]:
    try:
        used = placeholders(getattr(place.rule, field) or "")
    except InvalidTemplate as error:
        yield (*place.path, field), str(error)
        return
    for name in used:
        if name not in known:
            reason = "may be unknown here: it is neither in `needs` nor a tool's output"
            yield (*place.path, field), f"{{{name}}} {reason}"


def _check_actions(flow: Flow, place: _Place) -> Iterator[Fault]:
    rule = place.rule
    actions = [name for name in ("call", "hand_off", "end") if getattr(rule, name) is not None]
    if len(actions) > 1:
        yield (*place.path, actions[1]), f"a rule does one thing, and this one has {' and '.join(actions)}"
    if (rule.call is None) != (rule.on_failure is None):
        field = "call" if rule.on_failure is None else "on_failure"
        yield (*place.path, field), "`call` and `on_failure` go together"
    if rule.hand_off is not None and rule.hand_off not in flow.agents:
        yield (*place.path, "hand_off"), unknown("agent", rule.hand_off, flow.agents)
    if rule.hand_off is not None and place.path[:2] == ("agents", rule.hand_off):
        yield (*place.path, "hand_off"), f"{rule.hand_off!r} hands off to itself"
    if rule.call is not None:
        yield from _check_call(flow, place, rule.call)


def _check_call(flow: Flow, place: _Place, name: str) -> Iterator[Fault]:
    if name not in TOOLS:
        yield (*place.path, "call"), unknown("tool", name, TOOLS)
        return
    for argument in TOOLS[name].arguments.model_fields:
        if argument not in place.rule.needs:
            yield (*place.path, "call"), f"{name} takes {argument!r}, which is not in `needs`"
        else:
            yield from _check_values(flow, TOOLS[name], argument)


def _check_values(flow: Flow, tool: Tool, argument: str) -> Iterator[Fault]:
    for words, value in flow.slots.get(argument, {}).items():
        try:
            tool.arguments.__pydantic_validator__.validate_assignment(
                tool.arguments.model_construct(), argument, value
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            yield ("slots", argument, words), f"{value!r} is not what {tool.name} takes: {reason}"


def _check_plain_texts(flow: Flow) -> Iterator[Fault]:
    texts: dict[Path, str] = {("fallback",): flow.fallback, ("silence", "say"): flow.silence.say}
    texts |= {("agents", name, "greeting"): agent.greeting for name, agent in flow.agents.items()}
    for path, text in texts.items():
        try:
            used = placeholders(text)
        except InvalidTemplate as error:
            yield path, str(error)
            continue
        if used:
            yield path, f"{{{used[0]}}} is unknown here: only rules fill in slots"


def _check_use(flow: Flow, phrases: dict[Path, Choice], rules: list[Rule]) -> Iterator[Fault]:
    heard = {name for rule in rules for name in rule.hear}
    reached = {flow.entry, *(rule.hand_off for rule in rules)}
    filled = {part.name for phrase in phrases.values() for part in walk(phrase) if isinstance(part, Slot)}
    yield from (
        (("phrases", name), "no rule hears this phrase") for name in flow.phrases if name not in heard
    )
    yield from ((("agents", name), "no rule hands off to it") for name in flow.agents if name not in reached)
    yield from ((("slots", name), "no phrase fills this slot") for name in flow.slots if name not in filled)
