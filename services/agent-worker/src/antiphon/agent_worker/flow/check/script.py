"""Check the scripts of a flow: phrases that the recogniser knows, and rules that apply and can answer."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from antiphon.agent_worker.flow.check.catalog import Catalog, Fault, ToolProblem
from antiphon.agent_worker.flow.check.texts import check_text
from antiphon.agent_worker.flow.check.values import MAX_REFERENCES, Accepted
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path, dotted
from antiphon.agent_worker.flow.phrase import Choice, InvalidPhrase, Slot, Word, parse_phrase, sentences, walk
from antiphon.agent_worker.flow.script import Rule, Script
from antiphon.agent_worker.flow.suggest import unknown
from antiphon.agent_worker.flow.variables import CLOCK

MAX_SENTENCES = 20_000  # per phrase
MAX_ALL_SENTENCES = 100_000  # of a flow: they are compared while the publisher waits
MAX_ALL_CHARACTERS = 20_000_000  # of them: they are in memory together
ACTIONS = ("call", "hand_off", "transfer", "end")


class PlacedRule(NamedTuple):
    """A rule and its place; `agent` is None for a rule of all agents."""

    path: Path
    agent: str | None
    rule: Rule


Earlier = dict[tuple[str, str | None], list[PlacedRule]]  # by phrase and question


def check_script(flow: Flow, catalog: Catalog) -> list[Fault]:
    """Return what is wrong with the scripts."""
    faults = [*_defined_twice(flow)]
    phrases: dict[Path, Choice] = {}
    for path, text in _phrase_texts(flow):
        try:
            phrases[path] = parse_phrase(text)
        except InvalidPhrase as error:
            faults.append((path, str(error)))
    faults += _phrase_slots(flow, phrases)
    faults += _vocabulary(flow, phrases, catalog)
    rules = list(placed_rules(flow))
    faults += _rules(flow, rules, catalog)
    faults += _fallback(flow)
    faults += _unused(flow, phrases, rules)
    if not faults:
        faults += _ambiguous(flow, phrases)
        faults += _never_applied(flow, rules)
    return faults


def scripts(flow: Flow) -> Iterator[tuple[Path, str | None, Script]]:
    """Yield the place of each script, its agent (None: all), and the script."""
    yield ("script",), None, flow.script
    for name, agent in flow.agents.items():
        yield ("agents", name, "script"), name, agent.script


def placed_rules(flow: Flow) -> Iterator[PlacedRule]:
    """Yield the rules of all scripts."""
    for path, agent, script in scripts(flow):
        for index, rule in enumerate(script.rules):
            yield PlacedRule((*path, "rules", index), agent, rule)


def _defined_twice(flow: Flow) -> Iterator[Fault]:
    for kind in ("slots", "phrases"):
        owners: dict[str, Path] = {}
        for path, _, script in scripts(flow):
            for name in getattr(script, kind):
                if owners.setdefault(name, path) != path:
                    yield (*path, kind, name), "another script of this flow has the same name"


def _phrase_texts(flow: Flow) -> Iterator[tuple[Path, str]]:
    for path, _, script in scripts(flow):
        for name, texts in script.phrases.items():
            for index, text in enumerate(texts):
                yield (*path, "phrases", name, index), text


def _phrase_slots(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    slots = flow.slots
    for path, phrase in phrases.items():
        for part in walk(phrase):
            if isinstance(part, Slot) and part.name not in slots:
                yield path, unknown("slot", part.name, slots)


def _vocabulary(flow: Flow, phrases: dict[Path, Choice], catalog: Catalog) -> Iterator[Fault]:
    vocabulary = catalog.vocabularies.get(flow.voice.stt.use) if flow.voice.stt is not None else None
    if vocabulary is None:
        return
    try:
        known = vocabulary()
    except ImportError as error:
        yield ("voice", "stt"), str(error)
        return
    for path, word in _words(flow, phrases):
        if word not in known:
            yield path, f"the word {word!r} is not in the recogniser's vocabulary"


def _words(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[tuple[Path, str]]:
    for path, _, script in scripts(flow):
        for slot, values in script.slots.items():
            yield from (((*path, "slots", slot, words), word) for words in values for word in words.split())
    for path, phrase in phrases.items():
        yield from ((path, part.text) for part in walk(phrase) if isinstance(part, Word))


def _rules(flow: Flow, rules: list[PlacedRule], catalog: Catalog) -> Iterator[Fault]:
    questions = {placed.rule.asks for placed in rules}
    slots, phrases = flow.slots, flow.phrases
    checked: set[tuple[str, str]] = set()
    references = [MAX_REFERENCES]
    for placed in rules:
        yield from _names(placed, questions, slots, phrases)
        yield from _answers(flow, placed)
        yield from _actions(placed)
        if placed.rule.call is not None:
            yield from _call(flow, placed, placed.rule.call, catalog, checked, references)


def _names(
    placed: PlacedRule, questions: set[str | None], slots: Mapping[str, Any], phrases: Mapping[str, Any]
) -> Iterator[Fault]:
    for name in placed.rule.hear:
        if name not in phrases:
            yield (*placed.path, "hear"), unknown("phrase", name, phrases)
    for field in ("needs", "forget"):
        for name in getattr(placed.rule, field):
            if name not in slots:
                yield (*placed.path, field), unknown("slot", name, slots)
    if placed.rule.after is not None and placed.rule.after not in questions:
        yield (*placed.path, "after"), f"no rule asks {placed.rule.after!r}"


def _answers(flow: Flow, placed: PlacedRule) -> Iterator[Fault]:
    tool = flow.tools.get(placed.rule.call or "")
    known = {*placed.rule.needs, *flow.variables, *CLOCK}
    hint = ": it is neither in `needs` nor an output of the tool"
    outputs = known.union(tool.outputs if tool else ())
    yield from check_text((*placed.path, "say"), placed.rule.say, outputs, hint)
    if placed.rule.on_failure is not None:
        yield from check_text((*placed.path, "on_failure"), placed.rule.on_failure, known, hint)


def _actions(placed: PlacedRule) -> Iterator[Fault]:
    actions = [name for name in ACTIONS if getattr(placed.rule, name) is not None]
    if len(actions) > 1:
        reason = f"a rule can have only one of {', '.join(ACTIONS)}; this one has {' and '.join(actions)}"
        yield (*placed.path, actions[1]), reason
    if (placed.rule.call is None) != (placed.rule.on_failure is None):
        field = "call" if placed.rule.on_failure is None else "on_failure"
        yield (*placed.path, field), "`call` and `on_failure` must be used together"


def _call(
    flow: Flow,
    placed: PlacedRule,
    name: str,
    catalog: Catalog,
    checked: set[tuple[str, str]],
    references: list[int],
) -> Iterator[Fault]:
    """Yield what is wrong with a call of a tool; `checked` are the arguments whose values were looked at."""
    path = (*placed.path, "call")
    if name not in flow.tools:
        yield path, unknown("tool", name, flow.tools)
        return
    try:
        parameters = catalog.parameters(flow.tools[name])
    except ToolProblem:
        return  # said of the tool
    if parameters is None:
        yield path, f"{name} is an MCP server: only a model can call its tools"
        return
    required = set(parameters.get("required", ()))
    accepted = Accepted(parameters, references)
    for argument in parameters.get("properties", {}):
        if argument in placed.rule.needs:
            if (name, argument) not in checked:
                checked.add((name, argument))
                yield from _slot_values(flow, name, argument, accepted)
        elif argument in required:
            yield path, f"{name} takes {argument!r}, which is not in `needs`"


def _slot_values(flow: Flow, tool: str, argument: str, accepted: Accepted) -> Iterator[Fault]:
    for path, _, script in scripts(flow):
        for words, value in script.slots.get(argument, {}).items():
            if refusal := accepted.refusal(argument, value):
                yield (*path, "slots", argument, words), f"{tool} does not accept {value!r}: {refusal}"


def _fallback(flow: Flow) -> Iterator[Fault]:
    known = {*flow.variables, *CLOCK}
    for path, agent, script in scripts(flow):
        if script.fallback is not None:
            yield from check_text((*path, "fallback"), script.fallback, known)
        if agent is None or not flow.rules_of(agent) or flow.fallback_of(agent) is not None:
            continue
        llm = flow.voice_of(agent).llm
        if llm is not None and llm.use == "offline":
            yield ("script",), "needs a `fallback`: what the agent says when no rule applies"
            return


def _unused(flow: Flow, phrases: dict[Path, Choice], rules: list[PlacedRule]) -> Iterator[Fault]:
    used = {name for placed in rules for name in placed.rule.hear}
    used.update(action.hear for action in (flow.dtmf.keys if flow.dtmf else {}).values() if action.hear)
    filled = {part.name for phrase in phrases.values() for part in walk(phrase) if isinstance(part, Slot)}
    for path, _, script in scripts(flow):
        for name in script.phrases:
            if name not in used:
                yield (*path, "phrases", name), "no rule uses this phrase"
        for name in script.slots:
            if name not in filled:
                yield (*path, "slots", name), "no phrase fills this slot"


def _ambiguous(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    values = {slot: list(words) for slot, words in flow.slots.items()}
    owners: dict[str, str] = {}
    seen = characters = 0
    for path, phrase in phrases.items():
        name = str(path[-2])
        shared: str | None = None
        for number, sentence in enumerate(sentences(phrase, values), start=1):
            seen += 1
            characters += len(sentence)
            if seen > MAX_ALL_SENTENCES or characters > MAX_ALL_CHARACTERS:
                limit, kind = (MAX_ALL_SENTENCES, "sentences")
                if seen <= limit:
                    limit, kind = (MAX_ALL_CHARACTERS, "characters in sentences")
                yield path, f"with this, the phrases match more than {limit} {kind}, the limit of a flow"
                return
            if number > MAX_SENTENCES:
                yield path, f"matches more than {MAX_SENTENCES} sentences"
                break
            if owners.setdefault(sentence, name) != name and shared is None:
                shared = sentence
        if shared is not None:
            yield path, f"{shared!r} also matches the phrase {owners[shared]!r}"


def _never_applied(flow: Flow, rules: list[PlacedRule]) -> Iterator[Fault]:
    """Yield rules that earlier ones answer in every agent that has them."""
    hidden: dict[Path, Path] = {}
    applied: set[Path] = set()
    for of_agent in _by_agent(flow, rules):
        earlier: Earlier = {}
        for placed in of_agent:
            first = _covered(placed.rule, earlier)
            if first is None:
                applied.add(placed.path)
                for phrase in placed.rule.hear:
                    earlier.setdefault((phrase, placed.rule.after), []).append(placed)
            else:  # what it covers, the others cover
                hidden.setdefault(placed.path, first)
    for path, first in hidden.items():
        if path not in applied:
            yield path, f"this rule is never applied: {dotted(first)} always comes first"


def _by_agent(flow: Flow, rules: list[PlacedRule]) -> Iterator[list[PlacedRule]]:
    """Yield the rules of each agent, in order; once for all agents that have no rules of their own."""
    own: dict[str | None, list[PlacedRule]] = {}
    for placed in rules:
        own.setdefault(placed.agent, []).append(placed)
    shared = own.pop(None, [])
    yield from ([*of_agent, *shared] for of_agent in own.values())
    if len(own) < len(flow.agents):
        yield shared


def _covered(rule: Rule, earlier: Earlier) -> Path | None:
    """Return the place of a rule that answers whatever this one could, if rules cover all its phrases."""
    needs = set(rule.needs)
    first: Path | None = None
    for phrase in rule.hear:
        keys = dict.fromkeys(((phrase, None), (phrase, rule.after)))
        wider = (one for key in keys for one in earlier.get(key, ()) if needs.issuperset(one.rule.needs))
        covering = min((one.path for one in wider), key=_order, default=None)
        if covering is None:
            return None
        first = first or covering
    return first


def _order(path: Path) -> tuple[bool, int]:
    return path[0] == "script", int(path[-1])  # the rules of all agents come after an agent's own
