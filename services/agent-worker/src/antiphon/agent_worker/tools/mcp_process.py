"""An MCP server that is a process: its standard streams as the streams of the SDK, with bounds, and its end.

The SDK's own `stdio_client` reads a line of any length into memory.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import IO, Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from antiphon.agent_worker.flow.definitions import MAX_RESULT_BYTES
from antiphon.agent_worker.tools.definition import program_path

MAX_MESSAGE_BYTES = 8 * MAX_RESULT_BYTES  # of a message, which has a tool's result twice, or all tools
END_SECONDS = 2.0  # for a process to end by itself, then after SIGTERM, then after SIGKILL
_FLUSH_SECONDS = 0.5  # for what is still to be sent
_POLL_SECONDS = 0.01

# a process whose parent is killed gets no chance to notice: the kernel ends it
_WITH_PARENT = (
    "import ctypes, os, signal, sys\n"
    "parent = int(sys.argv[1])\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "if os.getppid() != parent: sys.exit(1)\n"
    "try: os.execvp(sys.argv[2], sys.argv[2:])\n"
    "except OSError as error: sys.exit(f'cannot run {sys.argv[2]}: {error.strerror}')\n"
)

Received = MemoryObjectSendStream[SessionMessage | Exception]
_GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError)  # the session is closed


class MessageTooLarge(Exception):
    """A message of an MCP server is larger than its limit."""

    def __init__(self) -> None:
        super().__init__(f"sent a message of more than {MAX_MESSAGE_BYTES} bytes, which is the limit")


@asynccontextmanager
async def process_streams(
    command: list[str], environment: dict[str, str], said: deque[str]
) -> AsyncIterator[tuple[Any, Any]]:
    """Start a process and yield what it sends and what it is sent; `said` gets its standard error.

    A message that is too large comes as `MessageTooLarge`, and is the last one. Raises OSError.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid()), *command]
    with _pipe(said) as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=get_default_environment() | {"PATH": program_path()} | environment,
            limit=MAX_MESSAGE_BYTES,
            start_new_session=True,
        )
        to_session, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        sent, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, process, to_session)
            written = anyio.Event()
            tasks.start_soon(_write, process, from_session, to_session, written)
            try:
                yield received, sent
            finally:
                with anyio.CancelScope(shield=True):
                    received.close()  # what still comes is read and dropped: a process may wait for that
                    sent.close()
                    with anyio.move_on_after(_FLUSH_SECONDS):
                        await written.wait()
                    await _end(process)
                tasks.cancel_scope.cancel()


async def _read(process: asyncio.subprocess.Process, to_session: Received) -> None:
    assert process.stdout is not None
    with suppress(OSError):
        async with to_session:
            with suppress(*_GONE):
                await _read_messages(process.stdout, to_session)
        while await process.stdout.read(MAX_MESSAGE_BYTES):
            pass


async def _read_messages(stdout: asyncio.StreamReader, to_session: Received) -> None:
    while True:
        try:
            line = await stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            await to_session.send(MessageTooLarge())
            return
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError as error:
            await to_session.send(error)
        else:
            await to_session.send(SessionMessage(message))


async def _write(
    process: asyncio.subprocess.Process,
    from_session: MemoryObjectReceiveStream[SessionMessage],
    to_session: Received,
    written: anyio.Event,
) -> None:
    assert process.stdin is not None
    try:
        async with from_session:
            async for message in from_session:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(f"{text}\n".encode())
                await process.stdin.drain()
    except OSError:
        await to_session.aclose()  # it does not listen: no call may wait for an answer
    finally:
        written.set()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and its children: by the end of its input, by SIGTERM, by SIGKILL."""
    assert process.stdin is not None
    process.stdin.close()
    if not await _ended(process):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            if await _ended(process):
                break
    with suppress(ProcessLookupError, PermissionError):  # the children that it has left behind
        os.killpg(process.pid, signal.SIGKILL)
    process._transport.close()  # type: ignore[attr-defined] # else a child that holds a pipe keeps it open


async def _ended(process: asyncio.subprocess.Process) -> bool:
    with anyio.move_on_after(END_SECONDS):
        while process.returncode is None:  # noqa: ASYNC110 - `wait` waits for the pipes too
            await anyio.sleep(_POLL_SECONDS)
    return process.returncode is not None


@contextmanager
def _pipe(said: deque[str]) -> Iterator[IO[bytes]]:
    """Open a file whose last characters are kept: what a process writes must be read, or it blocks."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            data = os.read(reader, 65536)
        except BlockingIOError:
            return
        if not data:
            loop.remove_reader(reader)
        said.extend(data.decode(errors="replace"))

    loop.add_reader(reader, read)
    file: IO[bytes] = os.fdopen(writer, "wb", buffering=0)
    try:
        yield file
    finally:
        file.close()
        loop.remove_reader(reader)
        read_rest(reader, said)
        os.close(reader)


def read_rest(reader: int, said: deque[str]) -> None:
    """Read what is left in a pipe."""
    try:
        said.extend(os.read(reader, 65536).decode(errors="replace"))
    except OSError:
        return  # nothing is left, and a child of the process has it open
