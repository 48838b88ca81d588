"""`antiphon keys` as a process, against a session-api with a bootstrap key."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.api_keys import decode_key, key_digest

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
SECRET = "an-operators-first-secret-of-an-installation"

Run = Callable[..., Awaitable[tuple[int, str, str]]]


async def _end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def url(bus: Bus, nats_server: NatsServer) -> AsyncIterator[str]:
    """The URL of a session-api that made its first key from a setting."""
    port = free_port()
    variables = {
        "ANTIPHON_NATS_URL": nats_server.url,
        "ANTIPHON_API_PORT": str(port),
        "ANTIPHON_BOOTSTRAP_API_KEY": SECRET,
        "ANTIPHON_POSTGRES_DSN": "postgresql://127.0.0.1:1/nowhere",
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters!!",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "antiphon.session_api",
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(60):
        while process.returncode is None:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    if process.returncode is None:
        process.terminate()
    code, output, errors = await _end(process)
    assert code == 0, errors
    assert SECRET not in output + errors


@pytest.fixture
def antiphon(url: str) -> Run:
    """A function that runs `antiphon keys`, or another command."""

    async def run(*arguments: str, shell: str = 'exec "$@"', command: str = "keys") -> tuple[int, str, str]:
        variables = {"ANTIPHON_API_URL": url, "ANTIPHON_API_KEY": SECRET}
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            shell,
            "sh",
            ANTIPHON,
            command,
            *arguments,
            env=os.environ | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await _end(process)

    return run


async def test_create_prints_the_secret_alone(antiphon: Run, bus: Bus) -> None:
    code, output, errors = await antiphon("create", "ci", "--scope", "sessions:read", "--expires-in", "90d")

    assert code == 0, errors
    assert "key_" in errors
    secret = output.removesuffix("\n")
    digest = key_digest(secret)
    value = await (await bus.bucket("keys")).get(digest)
    assert value is not None
    key = decode_key(digest, value)
    assert key.name == "ci"
    assert key.scopes == {"sessions:read"}
    assert key.expires_at is not None
    _, listed, _ = await antiphon("list")
    assert secret not in listed
    assert key.id in listed


async def test_a_key_is_rotated_and_revoked(antiphon: Run) -> None:
    created = json.loads((await antiphon("create", "ci", "--scope", "sessions:read", "--json"))[1])

    rotated = json.loads((await antiphon("rotate", created["id"], "--overlap", "0s", "--json"))[1])
    code, _, errors = await antiphon("rotate", created["id"])
    revoked = await antiphon("revoke", rotated["id"])

    assert rotated["rotated_from"] == created["id"]
    assert rotated["secret"] != created["secret"]
    assert code == 1
    assert rotated["id"] in errors
    assert revoked[:2] == (0, "")
    listed = json.loads((await antiphon("list", "--json"))[1])["keys"]
    statuses = {key["id"]: key["status"] for key in listed}
    assert (statuses[created["id"]], statuses[rotated["id"]]) == ("expired", "revoked")
    assert [key["name"] for key in listed if key["operator"]] == ["bootstrap"]


async def test_what_was_done_with_keys_is_shown(antiphon: Run) -> None:
    created = json.loads((await antiphon("create", "ci", "--scope", "sessions:read", "--json"))[1])

    _, shown, _ = await antiphon("--since", "1h", command="audit")
    _, output, _ = await antiphon("--kind", "key.create", "--json", command="audit")
    wrong = await antiphon("--since", "soon", command="audit")

    [bootstrapped, made] = [line for line in shown.splitlines() if "key." in line]
    assert "service:session-api" in bootstrapped
    assert created["id"] in made
    assert [entry["target"] for entry in json.loads(output)["audit"]] == [created["id"]]
    assert (wrong[0], "24h" in wrong[2]) == (2, True)


async def test_mistakes_are_explained(antiphon: Run) -> None:
    wrong_scope = await antiphon("create", "ci", "--scope", "everything")
    wrong_time = await antiphon("create", "ci", "--scope", "admin", "--expires-in", "soon")
    unknown = await antiphon("revoke", "../flows")
    last = await antiphon("revoke", json.loads((await antiphon("list", "--json"))[1])["keys"][0]["id"])

    assert (wrong_scope[0], wrong_time[0], unknown[0], last[0]) == (2, 2, 1, 1)
    assert "sessions:read" in wrong_scope[2]
    assert "24h" in wrong_time[2]
    assert "404" in unknown[2]
    assert "last-admin-key" in last[2] or "Last admin key" in last[2]


UNWRITABLE = (("", '"$@" >/dev/full'), ("--json", '"$@" >&-'), ("", '{ "$@"; echo $? >&2; } | true'))


async def test_a_key_whose_secret_could_not_be_written_is_named(antiphon: Run) -> None:
    for form, shell in UNWRITABLE:
        create = ["create", "lost", "--scope", "sessions:read", *filter(None, [form])]
        code, output, errors = await antiphon(*create, shell=shell)

        assert output == ""
        assert code == 1 or errors.endswith("1\n")
        assert "the secret was not written" in errors
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
        [revoke] = re.findall(r"keys (revoke key_\w+)`", errors)
        assert (await antiphon(*revoke.split()))[0] == 0
