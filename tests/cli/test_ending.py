"""The first Ctrl-C ends a conversation, whatever hangs."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
SECONDS = 120.0
LOOP = "time.sleep(600)"  # a tool that blocks
TASK = """
while True:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        pass
"""
EXECUTOR = "await asyncio.to_thread(time.sleep, 600)"
AT_EXIT = "atexit.register(time.sleep, 600); await asyncio.sleep(600)"


def program(body: str) -> str:
    inner = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return (
        "import asyncio, atexit, signal, time\nfrom antiphon.cli import ending\n"
        "signal.signal(2, signal.default_int_handler)\n"
        f"async def main():\n    print('begun', flush=True)\n{inner}"
        "try:\n    ending.run(main(), seconds=0.5)\nexcept KeyboardInterrupt:\n    raise SystemExit(130)\n"
    )


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("body", [LOOP, TASK, EXECUTOR, AT_EXIT], ids=["loop", "task", "executor", "atexit"])
def test_what_hangs_does_not_keep_it(body: str, sent: signal.Signals, code: int) -> None:
    text = program(body)
    if sent is signal.SIGTERM:  # as report_errors of a command does
        text = f"import signal\nsignal.signal(15, lambda *a: signal.getsignal(2)(*a))\n{text}"
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(sent)
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait(SECONDS)
    assert process.returncode == code, errors
    assert errors == b"antiphon: not ended 0.5 s after the signal; given up\n"


def test_a_call_ends_by_ctrl_c_where_the_parent_ignores_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an API that never answers
        child, terminal = pty.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            environment = {**os.environ, "ANTIPHON_API_URL": url, "ANTIPHON_API_KEY": "key"}
            os.execve(ANTIPHON, [str(ANTIPHON), "call"], environment)
        silent.settimeout(SECONDS)
        shown = b""
        try:
            with silent.accept()[0]:
                os.write(terminal, b"\x03")
                deadline = time.monotonic() + SECONDS
                while time.monotonic() < deadline:
                    try:
                        shown += os.read(terminal, 4096)
                    except OSError:  # Linux: the other end is closed
                        break
            _, status = os.waitpid(child, 0)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130, shown
    assert b"Traceback" not in shown
