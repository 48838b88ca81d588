"""Check what a schema cannot: names must exist, words must be recognisable, rules must be consistent."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError

from antiphon.agent_worker.flow.model import Flow, Rule
from antiphon.agent_worker.flow.phrase import Choice, InvalidPhrase, Slot, Word, parse_phrase, sentences, walk
from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders
from antiphon.agent_worker.flow.tools import TOOLS, Tool

Path = tuple[str | int, ...]
Fault = tuple[Path, str]  # where in the flow, and the reason

_MAX_SENTENCES = 20_000  # per phrase


@dataclass(frozen=True, slots=True)
class ProviderCatalog:
    """The providers that a flow may name, by kind; the vocabulary of each recogniser, by its name.

    A recogniser without an entry in `vocabularies` accepts any word. An entry raises ImportError when the
    recogniser is not installed.
    """

    names: Mapping[str, Collection[str]]
    vocabularies: Mapping[str, Callable[[], Collection[str]]]


@dataclass(frozen=True, slots=True)
class _PlacedRule:
    path: Path
    rule: Rule


def check_flow(flow: Flow, catalog: ProviderCatalog) -> list[Fault]:
    """Return everything that is wrong with a flow that matches its schema."""
    faults = [*_check_providers(flow, catalog), *_check_entry(flow)]
    phrases: dict[Path, Choice] = {}
    for path, text in _phrase_texts(flow):
        try:
            phrases[path] = parse_phrase(text)
        except InvalidPhrase as error:
            faults.append((path, str(error)))
    faults += _check_phrase_slots(flow, phrases)
    faults += _check_vocabulary(flow, phrases, catalog)
    faults += _check_rules(flow)
    faults += _check_greetings_and_fallback(flow)
    faults += _check_unused(flow, phrases)
    if not faults:
        faults += _check_ambiguous_phrases(flow, phrases)
    return faults


def _check_providers(flow: Flow, catalog: ProviderCatalog) -> Iterator[Fault]:
    for kind, names in catalog.names.items():
        name = getattr(flow.providers, kind)
        if name not in names:
            yield ("providers", kind), _unknown(f"{kind} provider", name, names)


def _check_entry(flow: Flow) -> Iterator[Fault]:
    if flow.entry not in flow.agents:
        yield ("entry",), _unknown("agent", flow.entry, flow.agents)


def _phrase_texts(flow: Flow) -> Iterator[tuple[Path, str]]:
    for name, texts in flow.phrases.items():
        for index, text in enumerate(texts):
            yield ("phrases", name, index), text


def _check_phrase_slots(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    for path, phrase in phrases.items():
        for part in walk(phrase):
            if isinstance(part, Slot) and part.name not in flow.slots:
                yield path, _unknown("slot", part.name, flow.slots)


def _check_vocabulary(flow: Flow, phrases: dict[Path, Choice], catalog: ProviderCatalog) -> Iterator[Fault]:
    vocabulary = catalog.vocabularies.get(flow.providers.stt)
    if vocabulary is None:
        return
    try:
        known = vocabulary()
    except ImportError as error:
        yield ("providers", "stt"), str(error)
        return
    for path, word in _words(flow, phrases):
        if word not in known:
            yield path, f"the word {word!r} is not in the recogniser's vocabulary"


def _words(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[tuple[Path, str]]:
    for slot, values in flow.slots.items():
        yield from ((("slots", slot, words), word) for words in values for word in words.split())
    for path, phrase in phrases.items():
        yield from ((path, part.text) for part in walk(phrase) if isinstance(part, Word))


def _check_ambiguous_phrases(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    values = {slot: list(words) for slot, words in flow.slots.items()}
    owners: dict[str, str] = {}
    for path, phrase in phrases.items():
        name = str(path[1])
        matched = list(islice(sentences(phrase, values), _MAX_SENTENCES + 1))
        if len(matched) > _MAX_SENTENCES:
            yield path, f"matches more than {_MAX_SENTENCES} sentences"
        for sentence in matched:
            if owners.setdefault(sentence, name) != name:
                yield path, f"{sentence!r} also matches the phrase {owners[sentence]!r}"
                break


def _check_rules(flow: Flow) -> Iterator[Fault]:
    rules = list(_placed_rules(flow))
    questions = {placed.rule.asks for placed in rules}
    for placed in rules:
        yield from _check_names(flow, placed, questions)
        yield from _check_answers(placed)
        yield from _check_actions(flow, placed)


def _placed_rules(flow: Flow) -> Iterator[_PlacedRule]:
    for name, agent in flow.agents.items():
        for index, rule in enumerate(agent.rules):
            yield _PlacedRule(("agents", name, "rules", index), rule)
    for index, rule in enumerate(flow.rules):
        yield _PlacedRule(("rules", index), rule)


def _check_names(flow: Flow, placed: _PlacedRule, questions: set[str | None]) -> Iterator[Fault]:
    for name in placed.rule.hear:
        if name not in flow.phrases:
            yield (*placed.path, "hear"), _unknown("phrase", name, flow.phrases)
    for field in ("needs", "forget"):
        for name in getattr(placed.rule, field):
            if name not in flow.slots:
                yield (*placed.path, field), _unknown("slot", name, flow.slots)
    if placed.rule.after is not None and placed.rule.after not in questions:
        yield (*placed.path, "after"), f"no rule asks {placed.rule.after!r}"


def _check_answers(placed: _PlacedRule) -> Iterator[Fault]:
    tool = TOOLS.get(placed.rule.call or "")
    outputs = tool.outputs if tool else ()
    yield from _check_template(placed, "say", [*placed.rule.needs, *outputs])
    yield from _check_template(placed, "on_failure", placed.rule.needs)


def _check_template(placed: _PlacedRule, field: str, known: list[str]) -> Iterator[Fault]:
    try:
        used = placeholders(getattr(placed.rule, field) or "")
    except InvalidTemplate as error:
        yield (*placed.path, field), str(error)
        return
    for name in used:
        if name not in known:
            reason = "may have no value here: it is neither in `needs` nor an output of the tool"
            yield (*placed.path, field), f"{{{name}}} {reason}"


def _check_actions(flow: Flow, placed: _PlacedRule) -> Iterator[Fault]:
    rule = placed.rule
    actions = [name for name in ("call", "hand_off", "end") if getattr(rule, name) is not None]
    if len(actions) > 1:
        reason = f"a rule can have only one of call, hand_off and end; this one has {' and '.join(actions)}"
        yield (*placed.path, actions[1]), reason
    if (rule.call is None) != (rule.on_failure is None):
        field = "call" if rule.on_failure is None else "on_failure"
        yield (*placed.path, field), "`call` and `on_failure` must be used together"
    if rule.hand_off is not None and rule.hand_off not in flow.agents:
        yield (*placed.path, "hand_off"), _unknown("agent", rule.hand_off, flow.agents)
    if rule.hand_off is not None and placed.path[:2] == ("agents", rule.hand_off):
        yield (*placed.path, "hand_off"), f"{rule.hand_off!r} hands off to itself"
    if rule.call is not None:
        yield from _check_call(flow, placed, rule.call)


def _check_call(flow: Flow, placed: _PlacedRule, name: str) -> Iterator[Fault]:
    if name not in TOOLS:
        yield (*placed.path, "call"), _unknown("tool", name, TOOLS)
        return
    for argument in TOOLS[name].arguments.model_fields:
        if argument not in placed.rule.needs:
            yield (*placed.path, "call"), f"{name} takes {argument!r}, which is not in `needs`"
        else:
            yield from _check_slot_values(flow, TOOLS[name], argument)


def _check_slot_values(flow: Flow, tool: Tool, argument: str) -> Iterator[Fault]:
    for words, value in flow.slots.get(argument, {}).items():
        try:
            tool.arguments.__pydantic_validator__.validate_assignment(
                tool.arguments.model_construct(), argument, value
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            yield ("slots", argument, words), f"{tool.name} does not accept {value!r}: {reason}"


def _check_greetings_and_fallback(flow: Flow) -> Iterator[Fault]:
    texts: dict[Path, str] = {("fallback",): flow.fallback, ("silence", "say"): flow.silence.say}
    texts |= {("agents", name, "greeting"): agent.greeting for name, agent in flow.agents.items()}
    for path, text in texts.items():
        try:
            used = placeholders(text)
        except InvalidTemplate as error:
            yield path, str(error)
            continue
        if used:
            yield path, f"{{{used[0]}}} has no value here: only rules can use slots"


def _check_unused(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    rules = [placed.rule for placed in _placed_rules(flow)]
    used = {name for rule in rules for name in rule.hear}
    reached = {flow.entry, *(rule.hand_off for rule in rules)}
    filled = {part.name for phrase in phrases.values() for part in walk(phrase) if isinstance(part, Slot)}
    yield from ((("phrases", name), "no rule uses this phrase") for name in flow.phrases if name not in used)
    yield from (
        (("agents", name), "no rule hands off to this agent") for name in flow.agents if name not in reached
    )
    yield from ((("slots", name), "no phrase fills this slot") for name in flow.slots if name not in filled)


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {kind} {name!r}; defined: {', '.join(known) or 'none'}"
