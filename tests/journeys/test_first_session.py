"""The check of an installation makes a real session: with an agent and without one."""

import asyncio
import os
import sys

import pytest
from tests.fixtures import leftovers

from antiphon.cli.embedded import EmbeddedStack


@pytest.mark.parametrize(
    ("arguments", "agent"), [((), False), (("--flow", "booking"), True)], ids=["no agent", "a flow"]
)
async def test_creates_reads_and_ends_a_session(
    stack: EmbeddedStack, arguments: tuple[str, ...], agent: bool
) -> None:
    where = stack.status().addresses
    assert where.api_key
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "antiphon.session_api.first_session", "--timeout", "90", *arguments),
        env={
            "PATH": os.environ["PATH"],
            leftovers.RUN: os.environ[leftovers.RUN],
            "ANTIPHON_API_URL": where.api_url,
            "ANTIPHON_API_KEY": where.api_key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async with asyncio.timeout(120):
        printed, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    lines = [line.split(" ")[0] for line in printed.decode().splitlines()]
    assert lines == ["created", *(["its"] if agent else []), "read", "recorded:"]
