"""`antiphon flow new`: write a flow file to start from."""

import os
import re
from contextlib import suppress
from importlib import resources
from pathlib import Path

from rich.text import Text

from antiphon.agent_worker.conversation.flow_file import InvalidFlow, open_flow, schema_text
from antiphon.cli.errors import StackError
from antiphon.cli.screen import err, out, program_name, shown

TEMPLATES = resources.files("antiphon.cli.flows") / "templates"
SCHEMA = "flow.schema.json"
HEADER = f"# yaml-language-server: $schema={SCHEMA}\n"
FLOWS = Path("flows")
ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
OWN_ID = re.compile(r"^id: .*$", re.MULTILINE)


def write_flow(flow_id: str, template: str, folder: Path | None, *, force: bool) -> Path:
    """Write a flow file from a template and say what to do next; return where it is.

    Raises StackError, also for a file that is there already.
    """
    if ID.fullmatch(flow_id) is None:
        raise StackError(
            f"{shown(flow_id)!r} is not the id of a flow: lower-case letters, digits and -, a letter first"
        )
    folder = folder or (FLOWS if FLOWS.is_dir() else Path())
    path = folder / f"{flow_id}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    body = (TEMPLATES / f"{template}.yaml").read_text(encoding="utf-8")
    _write(path, HEADER + OWN_ID.sub(f"id: {flow_id}", body, count=1), force=force)
    with suppress(FileExistsError):
        _create(folder / SCHEMA, schema_text())
    _print_next(path)
    return path


def _write(path: Path, text: str, *, force: bool) -> None:
    if force:
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)  # all of it or nothing
        return
    try:
        _create(path, text)
    except FileExistsError as error:
        raise StackError(f"{path} is there already: choose another name, or pass --force") from error


def _create(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _print_next(path: Path) -> None:
    out.print(Text(shown(str(path))))
    program = program_name()
    for verb, purpose in (
        ("run", "talk with it"),
        ("test", "hold its conversations"),
        ("check", "after a change"),
    ):
        err.print(Text(f"  {program} flow {verb} {shown(os.fspath(path))}   # {purpose}", style="dim"))
    try:
        open_flow(path)
    except InvalidFlow as error:
        err.print(Text("Before it runs:", style="yellow"))
        for problem in error.problems:
            err.print(Text(shown(f"  {problem}"), style="yellow"))
