"""Generate the schemas and the AsyncAPI document: `python -m antiphon.contracts.generate [--check]`."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from antiphon.contracts.asyncapi import document
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.schemas import breaking_changes, older_files, schema_files
from antiphon.contracts.upcasters import UPCASTERS, wrong_steps

PACKAGE = Path(__file__).parents[3]
SCHEMAS = PACKAGE / "schemas"
ASYNCAPI = PACKAGE / "asyncapi.json"


def render(node: Any) -> str:
    """Return a document in its committed format."""
    return json.dumps(node, indent=2, ensure_ascii=False) + "\n"


def expected_files() -> dict[Path, str]:
    """Return the expected text of every generated file."""
    files = {SCHEMAS / name: render(schema) for name, schema in schema_files().items()}
    return files | {ASYNCAPI: render(document(version("antiphon-contracts")))}


def breaking(folder: Path = SCHEMAS) -> list[str]:
    """Describe the breaking changes of the code against the committed schemas.

    Schemas of older versions are not compared: no struct describes them any more.
    """
    found = []
    known, kept = schema_files(), older_files()
    for path in sorted(folder.glob("*.schema.json")):
        if path.name in kept:
            continue
        new = known.get(path.name)
        if new is None:
            found.append(f"{path.name}: its event was removed")
        else:
            changes = breaking_changes(json.loads(path.read_text()), new)
            found += [f"{path.name}: {change}" for change in changes]
    return found


def incomplete(folder: Path) -> list[str]:
    """Describe what older versions lack: the step to the next version, or their committed schema."""
    found = list(wrong_steps({event.TYPE: event.VERSION for event in EVENTS}, UPCASTERS))
    return found + [
        f"{name}: was removed; restore it" for name in older_files() if not (folder / name).exists()
    ]


def stale(files: dict[Path, str]) -> list[Path]:
    """Return the files that are missing or out of date."""
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` report what is wrong; never overwrite after a breaking change."""
    broken, lacking, files = breaking(), incomplete(SCHEMAS), expected_files()
    for change in broken:
        print(f"breaking: {change} (make it a new version of the event)", file=sys.stderr)
    for what in lacking:
        print(f"incomplete: {what}", file=sys.stderr)
    old = stale(files)
    if "--check" in arguments:
        for path in old:
            print(f"stale: {path.relative_to(PACKAGE)} (run make contracts)", file=sys.stderr)
        return 1 if broken or lacking or old else 0
    if broken or lacking:
        return 1
    SCHEMAS.mkdir(exist_ok=True)
    for path in old:
        path.write_text(files[path])
        print(f"wrote {path.relative_to(PACKAGE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
