"""A rule of import-linter: no circle of files.

import-linter's own `acyclic_siblings` compares the children of one folder at a time, so it misses a file that
imports from its own package.
"""

from graphlib import CycleError, TopologicalSorter

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


class NoFileCircles(Contract):
    """A ban on files that import one another in a circle; typing-only and late imports count."""

    type_name = "no_file_circles"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find the circles: break each that is found until none is left."""
        imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
        circles = []
        while circle := _circle(imports):
            circles.append(circle)
            imports[circle[1]].discard(circle[0])
        return ContractCheck(kept=not circles, metadata={"circles": circles})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each circle on a line."""
        for circle in check.metadata["circles"]:
            output.print_error(" <- ".join(circle))


def _circle(imports: dict[str, set[str]]) -> list[str]:
    """Return a circle or nothing: each module is imported by the next; the last is the first again."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
