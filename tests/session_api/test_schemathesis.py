"""Every operation of the OpenAPI document, with generated requests: the answers are those it documents."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
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
    running: Any, session_id: str, persistence: Any
) -> None:
    await persistence.catch_up(session_id)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"),
        *("--header", "Authorization: Bearer writer"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "6", "--seed", "8", "--generation-deterministic"),
        *("--request-timeout", "20", "--no-color"),
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(300):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, output.decode()
