"""The generated files of the agent worker: `python -m antiphon.agent_worker.generate ROOT [--check]`.

They are the options of the providers' plugins, the JSON Schema of flow files, and the reference of providers.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from antiphon.agent_worker.flow.schema import render_schema
from antiphon.agent_worker.providers import signature
from antiphon.agent_worker.providers.entry import resolve
from antiphon.agent_worker.providers.openai_deepgram import PLUGINS
from antiphon.agent_worker.providers.reference import render_reference
from antiphon.agent_worker.providers.schema import with_providers
from antiphon.agent_worker.providers.table import load_providers


def render_options() -> str:
    """Return the text of providers/options.json; imports the plugins."""
    return signature.render(
        {entry.place: signature.options_of(resolve(entry.factory), entry.reserved) for entry in PLUGINS}
    )


def generated(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each generated file of a checkout, and its text."""
    providers = load_providers(points=())  # the published files have no installed extensions
    yield signature.OPTIONS, render_options()
    yield root / "flows" / "flow.schema.json", render_schema(with_providers(providers))
    yield root / "docs" / "reference" / "providers.md", render_reference(providers)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description="Generate files from the table of providers.")
    parser.add_argument("root", type=Path, help="the root of the checkout")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    options = parser.parse_args(arguments)
    stale = [
        (path, text)
        for path, text in generated(options.root)
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if options.check:
            print(f"{path} is out of date: run make contracts", file=sys.stderr)  # noqa: T201
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
