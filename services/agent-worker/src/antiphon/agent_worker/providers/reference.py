"""The reference of providers, docs/reference/providers.md, generated from the table."""

from collections.abc import Iterator
from pathlib import Path

from antiphon.agent_worker.flow.voice import KINDS
from antiphon.agent_worker.providers.entry import ProviderEntry, Schema
from antiphon.agent_worker.providers.options import expected, schemas_of
from antiphon.agent_worker.providers.table import Providers

_TITLES = {
    "vad": "`vad`: detects speech",
    "stt": "`stt`: turns speech into words",
    "llm": "`llm`: chooses the answers",
    "tts": "`tts`: turns words into speech",
    "realtime": "`realtime`: hears and speaks itself, in place of `stt` and `llm`",
}
_MOST_LENGTH = 160  # characters of what an option takes

INTRODUCTION = Path(__file__).with_name("reference.txt")


def render_reference(providers: Providers) -> str:
    """Return the text of docs/reference/providers.md."""
    parts = [INTRODUCTION.read_text(encoding="utf-8")]
    for kind in KINDS:
        parts.append(f"## {_TITLES[kind]}\n\n")
        for (of, _), entry in providers.entries.items():
            if of == kind:
                parts += _section(entry)
    return "".join(parts).rstrip() + "\n"


def _section(entry: ProviderEntry) -> Iterator[str]:
    yield f"### {entry.name} ({entry.kind})\n\n{entry.summary}\n\n"
    if entry.key is not None:
        yield f"Key: `{entry.key}`, or `{entry.key_option}`.\n\n"
    yield f"```yaml\n{entry.example.rstrip()}\n```\n\n"
    options = schemas_of(entry)
    if not options:
        yield "It has no options.\n\n"
        return
    yield "| Option | Takes | Default |\n| --- | --- | --- |\n"
    for name, schema in sorted(options.items()):
        yield f"| `{name}` | {_taken(name, entry, schema)} | {_default(entry, name, schema)} |\n"
    yield "\n"


def _taken(name: str, entry: ProviderEntry, schema: Schema) -> str:
    if name in entry.secrets or (entry.key and name == entry.key_option):
        return '`"{secret.NAME}"`'
    text = expected(schema)
    return text if len(text) <= _MOST_LENGTH else f"{text[:_MOST_LENGTH].rpartition(',')[0]}, …"


def _default(entry: ProviderEntry, name: str, schema: Schema) -> str:
    if name == "language" and entry.language is not None:
        return "the flow's"
    default = schema.get("default", "")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default == "" else f"`{default}`"
