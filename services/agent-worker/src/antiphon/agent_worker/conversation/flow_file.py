"""A flow file opened to be tried or tested: the checked flow, and the lines of its parts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow.check import Catalog
from antiphon.agent_worker.flow.document import Document, FlowProblem, InvalidFlow
from antiphon.agent_worker.flow.load import checked_flow, read_document
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path as FlowPath
from antiphon.agent_worker.flow.names import dotted
from antiphon.agent_worker.flow.schema import render_schema
from antiphon.agent_worker.flow.voice import Provider
from antiphon.agent_worker.providers.options import missing_key
from antiphon.agent_worker.providers.schema import with_providers
from antiphon.agent_worker.providers.table import PROVIDERS

NOT_SET = "the secret "  # how the problem of an option begins whose secret is not set

__all__ = [
    "Flow",
    "FlowFile",
    "FlowPath",
    "FlowProblem",
    "InvalidFlow",
    "catalog",
    "dotted",
    "open_flow",
    "read_document",
    "schema_text",
]


@dataclass(frozen=True, slots=True)
class FlowFile:
    """A checked flow, and the document that it was read from."""

    flow: Flow
    document: Document

    def line_of(self, path: FlowPath) -> int:
        """Return the line of a part, or of the nearest one around it."""
        return self.document.problem(path, "").line


def open_flow(path: FilePath, *, needs_secrets: bool = True, as_text: bool = False) -> FlowFile:
    """Open a flow file. Raises InvalidFlow with every problem found.

    Without `needs_secrets` a secret or a key that is not set is no problem; `as_text` the keys of those that
    hear and speak are not needed.
    """
    document = read_document(path)
    return FlowFile(checked_flow(document, catalog(needs_secrets=needs_secrets, as_text=as_text)), document)


def schema_text() -> str:
    """Return the JSON Schema of flow files, with the providers of this installation, for editors."""
    return render_schema(with_providers(PROVIDERS))


def catalog(*, needs_secrets: bool, as_text: bool = False) -> Catalog:
    """Return what flows may use here; without `needs_secrets` as if all secrets and keys were set.

    `as_text`, those of models and tools are needed only.
    """
    if needs_secrets:
        return replace(CATALOG, option_problems=_of_models) if as_text else CATALOG
    return replace(CATALOG, has_secret=_always, option_problems=_but_for_keys)


def _always(name: str) -> bool:
    del name
    return True


def _of_models(kind: str, provider: Provider) -> Iterable[tuple[str, str]]:
    return (CATALOG.option_problems if kind == "llm" else _but_for_keys)(kind, provider)


def _but_for_keys(kind: str, provider: Provider) -> Iterator[tuple[str, str]]:
    missing = missing_key(PROVIDERS.find(kind, provider.use), provider)
    for option, reason in CATALOG.option_problems(kind, provider):
        if reason != missing and not reason.startswith(NOT_SET):
            yield option, reason
