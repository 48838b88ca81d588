"""The command of a generated page: it prints the page, or tells whether a file has it."""

import argparse
import sys
from pathlib import Path


def print_or_check(module: str, page: str, source: str) -> int:
    """Print a page, or compare it with a file; return the exit code. `source` is what the page is made of."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--check", type=Path, metavar="FILE", help="exit with 1 if the file is another page")
    file = parser.parse_args().check
    if file is None:
        print(page, end="")
    elif not file.exists() or file.read_text() != page:
        print(f"{file} is not that of {source}: run make contracts", file=sys.stderr)
        return 1
    return 0
