"""A rule of import-linter: no circle of files.

Its own `acyclic_siblings` looks at the children of one folder at a time, and so does not see a file that
imports from the package that it is in.
"""

from graphlib import CycleError, TopologicalSorter

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


class NoFileCircles(Contract):
    """Files that import one another in a circle; imports for types alone and late ones count."""

    type_name = "no_file_circles"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find circles until breaking each leaves none."""
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
