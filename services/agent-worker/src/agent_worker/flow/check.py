"""What a schema cannot say of a flow: names that must exist, words that can be heard, answers that can be given."""

from collections.abc import Iterator
from itertools import islice

from agent_worker.flow.check_rules import check_rules
from agent_worker.flow.document import Document
from agent_worker.flow.model import Flow
from agent_worker.flow.phrase import Choice, InvalidPhrase, Slot, Word, parse_phrase, sentences, walk
from agent_worker.flow.problems import FlowProblem, Path
from agent_worker.providers.table import PROVIDERS

Fault = tuple[Path, str]
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
            yield ("providers", kind), f"there is no {kind} provider {name!r}; there is {', '.join(providers)}"


def _check_entry(flow: Flow) -> Iterator[Fault]:
    if flow.entry not in flow.agents:
        yield ("entry",), f"there is no agent {flow.entry!r}; there is {', '.join(flow.agents)}"


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
                yield path, f"there is no slot {part.name!r}; there is {', '.join(flow.slots) or 'none'}"


def _check_words(flow: Flow, phrases: dict[Path, Choice]) -> Iterator[Fault]:
    provider = PROVIDERS["stt"].get(flow.providers.stt)
    if provider is None or provider.known_words is None:
        return
    known = provider.known_words()
    for slot, values in flow.slots.items():
        for spoken in values:
            for word in spoken.split():
                if word not in known:
                    yield ("slots", slot, spoken), _unknown(word)
    for path, phrase in phrases.items():
        for part in walk(phrase):
            if isinstance(part, Word) and part.text not in known:
                yield path, _unknown(part.text)


def _unknown(word: str) -> str:
    return f"the recogniser does not know the word {word!r}"


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
