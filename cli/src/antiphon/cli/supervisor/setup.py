"""What is made between the servers' start and the services': streams, the key, the tables, the flows."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from antiphon.chassis.bus import Bus, BusError
from antiphon.cli.errors import StackError
from antiphon.cli.stack import child
from antiphon.cli.stack.child import Command
from antiphon.contracts.streams import KEYS

TENANT = "default"
COMMAND_SECONDS = 120.0


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Bus]:
    """Hold a connection to the broker; its errors are the stack's."""
    try:
        bus = await Bus.connect(url, name="antiphon-up")
        try:
            yield bus
        finally:
            await bus.close()
    except BusError as error:
        raise StackError(f"NATS at {url}: {error}") from error


async def admit(bus: Bus, api_key: str, now: datetime) -> None:
    """Put the development API key, hashed, where session-api looks for keys."""
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    keys = await bus.bucket(KEYS.name)
    if await keys.get(digest) is None:
        about = {
            "tenant": TENANT,
            "name": "development",
            "scopes": ["sessions:write", "sessions:read"],
            "created_at": now.astimezone(UTC).isoformat(),
        }
        await keys.put(digest, json.dumps(about).encode())


async def run_to_end(name: str, command: Command, output: Path) -> None:
    """Run a command that ends.

    Raises StackError with the end of its output when it fails.
    """
    process = child.spawn(command, output)
    try:
        code = await asyncio.to_thread(process.wait, COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        child.kill(process)
    if code != 0:
        how = f"failed with code {code}" if code is not None else f"did not end in {COMMAND_SECONDS:g} s"
        raise StackError(f"{name} {how}:\n{child.last_lines(output)}")
