"""Providers of other packages: entry points of the group `antiphon.providers`.

An entry point names a ProviderEntry, an iterable of them, or a function that returns one or the other. One
that cannot be used is left out, with the reason: it never stops a worker.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from antiphon.agent_worker.providers.entry import ProviderEntry

GROUP: Final = "antiphon.providers"
KINDS: Final = ("vad", "stt", "llm", "tts", "realtime")


@dataclass(frozen=True, slots=True)
class FailedExtension:
    """An entry point that was left out, and why."""

    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"the entry point {self.name!r} of {self.package} is left out: {self.reason}"


def installed_extensions() -> Iterable[EntryPoint]:
    """Return the entry points of the installed packages."""
    return entry_points(group=GROUP)


def load_extensions(
    points: Iterable[EntryPoint], taken: Mapping[tuple[str, str], ProviderEntry]
) -> tuple[list[ProviderEntry], list[FailedExtension]]:
    """Return the providers of entry points, and those that were left out; names in `taken` are refused."""
    entries: list[ProviderEntry] = []
    failed: list[FailedExtension] = []
    known = dict(taken)
    for point in sorted(points, key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            found = [*_entries_of(point.load(), known)]
        except Exception as error:  # noqa: BLE001 - the code of others may raise anything
            failed.append(FailedExtension(point.name, package, str(error) or repr(error)))
            continue
        entries += found
        known.update({(entry.kind, entry.name): entry for entry in found})
    return entries, failed


def _entries_of(found: Any, known: Mapping[tuple[str, str], ProviderEntry]) -> Iterator[ProviderEntry]:
    if callable(found) and not isinstance(found, ProviderEntry):
        found = found()
    listed = [found] if isinstance(found, ProviderEntry) else found
    if not isinstance(listed, Iterable):
        raise TypeError(f"it is {found!r}, not a ProviderEntry or a list of them")
    for entry in listed:
        if not isinstance(entry, ProviderEntry):
            raise TypeError(f"it has {entry!r}, which is not a ProviderEntry")
        if entry.kind not in KINDS:
            raise ValueError(f"the provider {entry.name!r} has the kind {entry.kind!r}: not one of {KINDS}")
        if (entry.kind, entry.name) in known:
            raise ValueError(f"there is already a provider {entry.place!r}")
        yield entry
