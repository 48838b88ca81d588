"""The command line: `run` takes calls, `publish-flows` publishes flow files."""

import argparse
import asyncio
import sys
from pathlib import Path

from antiphon.agent_worker.flow import InvalidFlow
from antiphon.agent_worker.flow_store import publish_flows
from antiphon.agent_worker.providers.table import check_installed
from antiphon.agent_worker.settings import SERVICE, AgentSettings
from antiphon.agent_worker.worker import serve
from antiphon.chassis import process, telemetry
from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.settings import NatsSettings, load
from antiphon.contracts.ids import DEFAULT_TENANT
from antiphon.contracts.streams import AUDIT, FLOWS
from antiphon.recorder.outbox import utc_now


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m antiphon.agent_worker", description="The voice agent in the room."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="take calls until stopped")
    publish = commands.add_parser("publish-flows", help="publish the flow files of a folder")
    publish.add_argument("folder", type=Path)
    publish.add_argument("--tenant", default=DEFAULT_TENANT)
    arguments = parser.parse_args()
    if arguments.command == "run":
        _run()
    else:
        sys.exit(asyncio.run(_publish(arguments.folder, arguments.tenant)))


def _run() -> None:
    settings = load(AgentSettings)
    try:
        check_installed()
    except ImportError as error:
        sys.exit(str(error))
    telemetry.configure(SERVICE, settings)
    process.run(lambda stop: serve(settings, stop))


async def _publish(folder: Path, tenant: str) -> int:
    settings = load(NatsSettings)
    try:
        bus = await Bus.connect(settings.nats, name="publish-flows")
        try:
            await bus.ensure_buckets(buckets=(FLOWS, AUDIT))
            published = await publish_flows(bus, folder, tenant=tenant, now=utc_now)
        finally:
            await bus.close()
    except (InvalidFlow, BusError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    for flow in published:
        print(f"{flow.flow_id}: revision {flow.revision}{' (new)' if flow.new else ''}")  # noqa: T201
    return 0
