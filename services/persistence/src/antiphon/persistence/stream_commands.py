"""The commands `streams`: ensure, status, gaps and recreate."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from antiphon.persistence.command_settings import loaded

streams = typer.Typer(
    help="Look at the stream of events, and make it again.", no_args_is_help=True, rich_markup_mode=None
)


@streams.command("ensure")
def streams_ensure() -> None:
    """Make the stream, its consumers and the buckets that are missing, as `run` does; safe to run again."""
    from antiphon.persistence.settings import EnsureSettings
    from antiphon.persistence.streams.ensure import ensure

    settings = loaded(EnsureSettings)
    typer.echo(asyncio.run(ensure(settings)))


@streams.command("status")
def streams_status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Compare the stream with what was read from it. Exit with 1 if an operator must act."""
    from antiphon.persistence.settings import StatusSettings
    from antiphon.persistence.streams.run import with_servers
    from antiphon.persistence.streams.status import read_stream_status, render

    settings = loaded(StatusSettings)
    found = asyncio.run(with_servers(settings, read_stream_status))
    typer.echo(found.to_json() if as_json else render(found))
    raise typer.Exit(1 if found.problems else 0)


@streams.command("gaps")
def streams_gaps(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what is known to be lost: positions, how many events, and the sessions that lack some."""
    import msgspec

    from antiphon.persistence.settings import StatusSettings
    from antiphon.persistence.streams.missing import read_missing, render_missing
    from antiphon.persistence.streams.run import with_servers

    settings = loaded(StatusSettings)
    found = asyncio.run(with_servers(settings, read_missing))
    typer.echo(msgspec.json.encode(found).decode() if as_json else render_missing(found))


@streams.command("recreate")
def streams_recreate(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Delete the existing stream; messages that are not in the log are kept."
        ),
    ] = False,
    drop_consumers: Annotated[
        bool,
        typer.Option(
            "--drop-consumers",
            help="Drop consumers of others that have unhandled events, which they lose; without it, refuse.",
        ),
    ] = False,
) -> None:
    """Create the stream again, after everything that the log has, and let stopped partitions continue."""
    from antiphon.contracts.audit import ActKind
    from antiphon.contracts.streams import SESSIONS
    from antiphon.persistence.settings import RecreateSettings
    from antiphon.persistence.streams.recreate import recreate, render_recreated
    from antiphon.persistence.streams.run import on_record, with_servers

    settings = loaded(RecreateSettings)
    command = partial(
        recreate,
        replace_existing=replace,
        drop_consumers=drop_consumers,
        replicas=settings.nats_replicas,
        max_bytes=settings.stream_max_bytes,
    )
    recorded = on_record(ActKind.STREAM_RECREATE, SESSIONS.name, command)
    result = asyncio.run(with_servers(settings, recorded))
    typer.echo(render_recreated(result))
