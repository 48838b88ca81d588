"""The end of a process: graceful on one signal, immediate on a second, 1 on an error; serving HTTP."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from antiphon.chassis.http.server import serve_http
from antiphon.cli.stack.ports import free_port

Program = subprocess.Popen[str]

WAITS = """
import asyncio
from antiphon.chassis import process, telemetry
from antiphon.chassis.settings import LogSettings

telemetry.configure("test", LogSettings())

async def main(stop):
    print("running", type(asyncio.get_running_loop()).__module__, flush=True)
    await stop.wait()
    {ending}
    print("ended", flush=True)

process.run(main)
"""


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """The programs that a test starts; they end with it."""
    started: list[Program] = []
    yield started
    for program in started:
        if program.poll() is None:
            program.kill()
        program.communicate(timeout=10)


def start(programs: list[Program], source: str) -> Program:
    program = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    programs.append(program)
    return program


def first_line(program: Program) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_gracefully(programs: list[Program], number: signal.Signals) -> None:
    program = start(programs, WAITS.format(ending="await asyncio.sleep(0.05)"))
    assert first_line(program) == "running uvloop"

    program.send_signal(number)

    out, _ = program.communicate(timeout=10)
    assert (program.returncode, out.strip()) == (0, "ended")


def test_a_second_signal_ends_the_process_at_once(programs: list[Program]) -> None:
    program = start(programs, WAITS.format(ending='print("stopping", flush=True); await asyncio.sleep(60)'))
    first_line(program)
    program.send_signal(signal.SIGTERM)
    assert first_line(program) == "stopping"

    program.send_signal(signal.SIGTERM)

    out, _ = program.communicate(timeout=10)
    assert (program.returncode, out) == (128 + signal.SIGTERM, "")


def test_a_signal_ends_a_process_whose_log_has_no_reader(programs: list[Program]) -> None:
    program = start(programs, WAITS.format(ending=""))
    assert first_line(program) == "running uvloop"
    assert program.stderr is not None
    program.stderr.close()

    program.send_signal(signal.SIGTERM)

    assert program.stdout is not None
    assert program.stdout.read() == "ended\n"
    program.wait(10)
    program.stderr = None


def test_an_uncaught_error_is_logged_and_exits_with_1(programs: list[Program]) -> None:
    program = start(programs, WAITS.format(ending='raise RuntimeError("the tank is empty")'))
    first_line(program)

    program.send_signal(signal.SIGTERM)

    out, err = program.communicate(timeout=10)
    assert program.returncode == 1
    assert "the tank is empty" in out + err


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def fetch(port: int) -> bytes:
    async with asyncio.timeout(60):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.02)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer


async def test_http_is_served_until_stopped_without_signal_handlers() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve_http(hello, "127.0.0.1", port, stop))

    assert (await fetch(port)).endswith(b"hi")
    assert signal.getsignal(signal.SIGTERM) is handler

    stop.set()
    await asyncio.wait_for(serving, 60)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve_http(hello, "127.0.0.1", port, asyncio.Event())


async def test_a_failed_startup_of_the_application_raises() -> None:
    async def fails_to_start(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        await serve_http(fails_to_start, "127.0.0.1", free_port(), asyncio.Event())


GROUP = """
    class Refused(Exception):
        __module__ = "antiphon.chassis.bus"

    async def refuse():
        raise {error}

    async with asyncio.TaskGroup() as group:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(refuse())
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ('Refused("insufficient storage\\n for SESSIONS")', "Refused: insufficient storage for SESSIONS"),
        ('OSError(98, "cannot listen on 127.0.0.1:8002")', "OSError: [Errno 98] cannot listen on"),
    ],
)
def test_an_error_that_explains_itself_is_one_line(programs: list[Program], error: str, line: str) -> None:
    program = start(programs, WAITS.format(ending=GROUP.format(error=error).strip()))
    first_line(program)

    program.send_signal(signal.SIGTERM)

    out, err = program.communicate(timeout=10)
    assert program.returncode == 1
    [failed] = [text for text in (out + err).splitlines() if "process.failed" in text]
    assert line in failed
    assert len(failed) < 400
    assert "Traceback" not in out + err


def test_the_traceback_of_a_bug_in_a_task_is_that_of_its_cause(programs: list[Program]) -> None:
    program = start(programs, WAITS.format(ending=GROUP.format(error='KeyError("tank")').strip()))
    first_line(program)

    program.send_signal(signal.SIGTERM)

    out, err = program.communicate(timeout=10)
    assert program.returncode == 1
    [failed] = [text for text in (out + err).splitlines() if "process.failed" in text]
    assert "KeyError: 'tank'" in failed
    assert "refuse" in failed  # the function that raised it
    assert "ExceptionGroup" not in failed
