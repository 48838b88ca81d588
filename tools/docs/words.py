"""The words of the style check: names and terms as they are written, spelling, names in headings."""

from typing import Final

Rules = tuple[tuple[str, str], ...]  # a pattern of whole words, and what to write instead

TERMS: Final[Rules] = (
    # names
    (r"PostgreSQL|Postgresql|postgres", "Postgres"),
    (r"Livekit|Live Kit|livekit", "LiveKit"),
    (r"Jetstream|Jet Stream|jetstream", "JetStream"),
    (r"Nats|nats", "NATS"),
    (r"kubernetes|[kK]8s", "Kubernetes"),
    (r"Opentelemetry|Open Telemetry|OTel|Otel", "OpenTelemetry"),
    (r"AsyncApi|Asyncapi|OpenApi|Openapi", "AsyncAPI, OpenAPI"),
    (r"Websockets?|[wW]eb sockets?|websockets?", "WebSocket"),
    (r"Github|Gitlab", "GitHub, GitLab"),
    (r"Docker compose|docker-compose", "Docker Compose"),
    (r"python", "Python"),
    (r"[jJ]avascript|Typescript", "JavaScript, TypeScript"),
    (r"(?:Cloud ?events|CloudEvent format)", "CloudEvents"),
    (r"prometheus|grafana", "Prometheus, Grafana"),
    # terms of the glossary, and what is said instead of them
    (r"(?i:event[- ]stores?|event database)", "event log"),
    (r"(?i:dead[- ]letter queues?|DLQs?)", "dead letters"),
    (r"(?i:read[- ]models?|materiali[sz]ed views?)", "view"),
    (r"(?i:sequence numbers?)", "sequence"),
    (r"(?i:conversation ids?|call ids?)", "session id"),
    (r"(?i:fencing tokens? of the partition)", "epoch"),
    # one spelling of common words
    (r"(?i:time-outs?)", "timeout"),
    (r"(?i:flow-files?)", "flow file"),
    (r"(?i:api-keys?|api keys?(?<!API key)(?<!API keys))", "API key"),
    (r"(?i:hostnames?)", "host name"),
    (r"(?i:filenames?)", "name of the file"),
    (r"(?i:(?<!home )director(?:y|ies))", "folder"),
    (r"(?i:failovers?)", "fail-over"),
    (r"(?i:web hooks?|web-hooks?)", "webhook"),
    (r"(?i:healthchecks?)", "health check"),
    (r"(?i:end-points?|end points?)", "endpoint"),
    (r"(?i:back-ends?)", "backend"),
    (r"(?i:emails?)", "e-mail"),
)

_BRITISH: Final = {
    "analyze": "analyse",
    "behavior": "behaviour",
    "canceled": "cancelled",
    "canceling": "cancelling",
    "catalog": "catalogue",
    "center": "centre",
    "color": "colour",
    "customize": "customise",
    "defense": "defence",
    "dialog": "dialogue",
    "favor": "favour",
    "favorite": "favourite",
    "fulfill": "fulfil",
    "gray": "grey",
    "honor": "honour",
    "initialize": "initialise",
    "labeled": "labelled",
    "minimize": "minimise",
    "modeled": "modelled",
    "neighbor": "neighbour",
    "normalize": "normalise",
    "optimize": "optimise",
    "organize": "organise",
    "prioritize": "prioritise",
    "realize": "realise",
    "recognize": "recognise",
    "serialize": "serialise",
    "signaling": "signalling",
    "summarize": "summarise",
    "synchronize": "synchronise",
    "traveled": "travelled",
    "utilize": "use",
}


def _forms(american: str) -> str:
    """Return a pattern of a word and its forms, at the start of a sentence too."""
    stem = american.removesuffix("e")
    ends = "s|ed|ing" if stem == american else "e|es|ed|ing|er|ers|ation|ations|al|able"
    return f"[{stem[0].upper()}{stem[0]}]{stem[1:]}(?:{ends})?"


# The docs are in British English; `authorization`, `license` and names of code are as others write them.
BRITISH: Final[Rules] = tuple((_forms(word), instead) for word, instead in _BRITISH.items())

FILLERS: Final[Rules] = (
    (r"(?i:simply|obviously|needless to say)", "the sentence without it"),
    (r"(?i:in order to)", "to"),
    (r"(?i:e\.g\.|i\.e\.|etc\.)", "for example, that is, and so on"),
    (r"(?i:blacklist|whitelist)(?:s|ed)?", "denied, allowed"),
    (r"(?i:master/slave|slaves?)", "primary, replica"),
)

# Words with a capital in the middle of a heading.
NAMES: Final = frozenset(
    {"Antiphon", "Compose", "Debian", "Deepgram", "Docker", "Grafana", "Helm", "Kubernetes", "Postgres"}
    | {"Prometheus", "Python", "Retell", "Vapi"}
)
