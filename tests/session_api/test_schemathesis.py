"""Every operation of the OpenAPI document, with generated requests: the answers are those it documents."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "allow_header_conformance",
    "unsupported_method",
)


async def test_generated_requests_are_answered_as_documented(
    running: Any, session_id: str, persistence: Any, tmp_path: Path
) -> None:
    await persistence.catch_up(session_id)
    config = tmp_path / "schemathesis.toml"
    # an id that exists, so that requests get beyond 404; and no waiting for an agent that never comes
    config.write_text(f'[parameters]\n"path.session_id" = "{session_id}"\n"query.timeout_seconds" = 1\n')
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"{running.url}/openapi.json"),
        *("--header", "Authorization: Bearer writer"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "4", "--generation-deterministic", "--max-time", "15"),
        *("--request-timeout", "20", "--no-color"),
    ]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(300):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, output.decode()
