"""What a schema cannot say of a flow: names that must exist, words that can be heard."""

from collections.abc import Iterator
from itertools import islice

from antiphon.agent_worker.flow.check_rules import check_rules
from antiphon.agent_worker.flow.document import Document
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.phrase import Choice, InvalidPhrase, Slot, Word, parse_phrase, sentences, walk
from antiphon.agent_worker.flow.problems import Fault, FlowProblem, Path, unknown
from antiphon.agent_worker.providers.table import PROVIDERS

_SENTENCES_COMPARED = 20_000  # per phrase; more than that is not a phrase but a language


def check_flow(flow: Flow, document: Document) -> list[FlowProblem]:
    """Return every problem of a flow that has the right shape."""
    faults = [*_check_providers(flow), *_check_entry(flow)]
    phrases = dict(_parsed(flow))
    for path, phrase in phrases.items():
        if isinstance(phrase, InvalidPhrase):
            faults.append((path, str(phrase)))
    parsed = {path: phrase for path, phrase in phrases.items() if isinstance(phrase, Choice)}
    faults += _check_slots_of_phrases(flow, parsed)
    faults += _check_words(flow, parsed)
    faults += check_rules(flow, parsed)
    if not faults:
        faults += _check_said_once(flow, parsed)
    return [document.problem(path, reason) for path, reason in faults]


def _check_providers(flow: Flow) -> Iterator[Fault]:
    for kind, providers in PROVIDERS.items():
        name = getattr(flow.providers, kind)
        if name not in providers:
            yield ("providers", kind), unknown(f"{kind} provider", name, providers)


def _check_entry(flow: Flow) -> Iterator[Fault]:
    if flow.entry not in flow.agents:
        yield ("entry",), unknown("agent", flow.entry, flow.agents)


def _parsed(flow: Flow) -> Iterator[tuple[Path, Choice | InvalidPhrase]]:
    for name, texts in flow.phrases.items():
        for index, text in enumerate(texts):
            try:
                yield ("phrases", name, index), parse_phrase(text)
            except InvalidPhrase as error:
                yield ("phrases", name, index), error


def _check_slots_of_phrases(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    for path, phrase in phrases.items():
        for part in walk(phrase):
            if isinstance(part, Slot) and part.name not in flow.slots:
                yield path, unknown("slot", part.name, flow.slots)


def _check_words(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    provider = PROVIDERS["stt"].get(flow.providers.stt)
    if provider is None or provider.known_words is None:
        return
    known = provider.known_words()
    for path, word in _words(flow, phrases):
        if word not in known:
            yield path, f"the recogniser does not know the word {word!r}"


def _words(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[tuple[Path, str]]:
    for slot, values in flow.slots.items():
        yield from ((("slots", slot, spoken), word) for spoken in values for word in spoken.split())
    for path, phrase in phrases.items():
        yield from ((path, part.text) for part in walk(phrase) if isinstance(part, Word))


def _check_said_once(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    values = {slot: list(words) for slot, words in flow.slots.items()}
    owners: dict[str, str] = {}
    for path, phrase in phrases.items():
        name = str(path[1])
        spoken = list(islice(sentences(phrase, values), _SENTENCES_COMPARED + 1))
        if len(spoken) > _SENTENCES_COMPARED:
            yield path, f"can be said in more than {_SENTENCES_COMPARED} ways"
        for sentence in spoken:
            if owners.setdefault(sentence, name) != name:
                yield path, f"{sentence!r} is already said by the phrase {owners[sentence]!r}"
                break
