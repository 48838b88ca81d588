"""What is wrong with a flow file, and where."""

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
Fault = tuple[Path, str]  # where in the flow, and the reason


@dataclass(frozen=True, slots=True, order=True)
class FlowProblem:
    """One error: the file, its line (from 1), the place within the flow, the reason."""

    file: str
    line: int
    place: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        return f"{self.file}:{self.line}: {place}{self.reason}"


class InvalidFlow(ValueError):
    """The flow file cannot be used; `problems` says each reason with file and line."""

    def __init__(self, problems: list[FlowProblem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def spell(path: Path) -> str:
    """Write a path as people do: agents.host.rules[2].say."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a name stands for nothing, and which names do."""
    return f"there is no {kind} {name!r}; there is {', '.join(known) or 'none'}"
