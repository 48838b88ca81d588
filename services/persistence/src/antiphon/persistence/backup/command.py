"""The commands `backup` and `restore`: what they print, and the codes that they exit with."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import typer

from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.manifest import PARTS, BackupError
from antiphon.persistence.backup.restore import Restored, restore
from antiphon.persistence.settings import BackupSettings
from antiphon.persistence.streams.recreate import CHECKS_COUNT

INTERRUPTED = 130  # the exit code

T = TypeVar("T")


def read_parts(text: str | None) -> list[str] | None:
    """Return the parts of `--only`, in the order of their backup. Exits with 2 if there are others."""
    if text is None:
        return None
    given = [part.strip() for part in text.split(",")]
    if unknown := [part for part in given if part not in PARTS]:
        raise typer.BadParameter(f"no part {', '.join(unknown)!r}; the parts are {', '.join(PARTS)}")
    return [part for part in PARTS if part in given]


def backup_command(settings: BackupSettings, folder: Path, parts: list[str] | None) -> None:
    """Make a backup and print what it has. Exits with 1 if there is none."""
    manifest = _run(back_up(settings, folder.absolute(), parts or PARTS, _say))
    seconds = (manifest.ended_at - manifest.began_at).total_seconds()
    size = sum(file.bytes for file in manifest.files(manifest.parts())) / 1e6
    typer.echo(f"{folder}: {', '.join(manifest.parts())}; {size:,.1f} MB in {seconds:.1f} s")
    typer.echo("It holds what callers said, hashes of API keys and the secret of the deployment: encrypt it.")


def restore_command(
    settings: BackupSettings, folder: Path, parts: list[str] | None, *, overwrite: bool, dry_run: bool
) -> None:
    """Restore a backup and print what is to be done next. Exits with 1 if not all was restored."""
    result = _run(restore(settings, folder.absolute(), parts, overwrite=overwrite, dry_run=dry_run, say=_say))
    if dry_run:
        typer.echo(f"It can be restored: {', '.join(result.parts)}. Nothing was changed (--dry-run).")
        return
    typer.echo(render_restored(result, folder))


def render_restored(result: Restored, folder: Path) -> str:
    """Return what was restored, what is missing, and what to do next, as text."""
    lines = [f"Restored: {', '.join(result.done)}."]
    stream = result.stream
    if stream is not None and stream.missing:
        lines.append("The log is older than the saved stream. These partitions may miss events at positions:")
        lines += [f"{number:>9}  {low} to {high}" for number, (low, high) in stream.missing.items()]
        lines.append(f"Together that is at most {stream.most} events: {CHECKS_COUNT}; see `streams gaps`.")
    lines.append("Next:")
    if "postgres" in result.done and stream is None:
        lines.append(
            "- python -m antiphon.persistence streams status: if the stream is lost as well, "
            "`streams recreate`; if not, ingest reads from it what the backup does not have"
        )
    lines.append("- start the services, and wait until they are ready")
    if "postgres" in result.done:
        lines += [
            f"- python -m antiphon.persistence verify --log --against {folder / 'manifest.json'}",
            "- python -m antiphon.persistence verify",
            "- erase again the sessions that were erased since the backup",
        ]
    if "buckets" in result.done:
        lines.append("- revoke again the API keys that were revoked since the backup: antiphon keys list")
    return "\n".join(lines)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(_until_stopped(work))
    except BackupError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except asyncio.CancelledError as error:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(INTERRUPTED) from error


async def _until_stopped(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task
