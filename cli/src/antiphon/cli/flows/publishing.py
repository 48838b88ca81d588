"""`antiphon flow publish`: send flow files to the deployment, as new revisions."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.errors import StackError
from antiphon.cli.screen import err, out, shown
from antiphon.client import AntiphonError, ApiError

YAML = "application/yaml"
PROBLEMS, MORE = "problems", "more_problems"  # of a flow, in the answer that refuses it
NEWEST = "newest_revision"  # of the flow, when another one was published first
ID = re.compile(r"""^id:[ \t]*(["']?)([a-z][a-z0-9-]{0,62})\1[ \t]*(?:#.*)?$""", re.MULTILINE)


async def publish_files(files: Sequence[Path], if_match: int | None) -> bool:
    """Publish flow files, print what became of each, and return whether all were accepted.

    A file that is refused does not keep back the others; a deployment that does not answer does.
    Raises StackError before the first is sent.
    """
    sources = [(path, *_read(path)) for path in files]  # all of them, before the first is sent
    missing = [flow_id for _, flow_id, _ in sources]
    async with open_api() as api:
        for path, flow_id, source in sources:
            try:
                answer = await api.request(
                    "PUT", f"/v1/flows/{flow_id}", headers=condition(if_match), raw=(YAML, source)
                )
            except ApiError as error:
                _print_refusal(path, flow_id, error)
            except AntiphonError as error:
                _print_error(path, str(error))
                break
            else:
                out.print(Text(shown(f"{flow_id}: revision {answer['revision']}")))
                missing.remove(flow_id)
    if missing and len(files) > 1:
        count = f"{len(files) - len(missing)} of {len(files)} files were published"
        err.print(Text(shown(f"{count}; not: {', '.join(missing)}"), style="red"))
    return not missing


def condition(if_match: int | None) -> dict[str, str]:
    """Return the header that lets a flow be published only over one revision; 0 is none yet."""
    if if_match is None:
        return {}
    return {"If-Match": f'"{if_match}"'} if if_match else {"If-None-Match": "*"}


def _print_refusal(path: Path, flow_id: str, error: ApiError) -> None:
    members = error.problem.members
    problems = members.get(PROBLEMS)
    if newest := members.get(NEWEST):
        _print_error(path, _changed(path, flow_id, newest))
    elif isinstance(problems, list):
        _print_problems(path, problems, members.get(MORE))
    else:
        _print_error(path, str(error))


def _print_error(path: Path, why: str) -> None:
    err.print(Text(shown(f"{path} was not published: {why}"), style="red"))


def _changed(path: Path, flow_id: str, newest: Any) -> str:
    return (
        f"revision {newest} is the newest of {flow_id}: see what differs with "
        f"antiphon flow diff {flow_id}@{newest} {path}, then publish with --if-match {newest}"
    )


def _read(path: Path) -> tuple[str, bytes]:
    """Return the id of the flow in a file, and the file. Raises StackError and OSError."""
    source = path.read_bytes()
    found = ID.search(source.decode(errors="replace"))
    if found is None:
        raise StackError(f"{path} has no line `id: …` with the id of the flow: antiphon flow check {path}")
    return found[2], source


def _print_problems(path: Path, problems: Sequence[Any], more: Any) -> None:
    for problem in problems:
        if isinstance(problem, dict):
            place = f"{problem.get('place')}: " if problem.get("place") else ""
            out.print(Text(shown(f"{path}:{problem.get('line', 1)}: {place}{problem.get('reason')}")))
    count = len(problems) + (more if isinstance(more, int) else 0)
    counted = "1 problem" if count == 1 else f"{count} problems"
    _print_error(path, counted)
