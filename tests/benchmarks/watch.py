"""Run a benchmark in a subprocess: pass on its reports and enforce the deadline of each step."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from .report import Result, Servers, Step

START_SECONDS = 60.0
_decoder = msgspec.json.Decoder(Step | Result)


class StepFailed(Exception):
    """A step of a benchmark failed or did not end in time; its process was killed."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"the step “{step}” {why}")


def watch(module: str, servers: Servers) -> Iterator[Step | Result]:
    """Run a benchmark in a subprocess and yield its reports.

    At the end its process group is killed. Raises StepFailed.
    """
    reading, writing = os.pipe()
    command = (sys.executable, "-m", "tests.benchmarks.measure", module, str(writing))
    process = subprocess.Popen(
        [*command, msgspec.json.encode(servers).decode()],
        stdin=subprocess.PIPE,  # is closed when this process ends
        pass_fds=[writing],
        start_new_session=True,
    )
    os.close(writing)
    step = Step("start", START_SECONDS)
    try:
        with os.fdopen(reading, "rb", buffering=0) as reports:
            lines = _Lines(reports.fileno())
            deadline = time.monotonic() + step.seconds
            while (line := lines.read(deadline, step)) is not None:
                message = _decoder.decode(line)
                if isinstance(message, Step):
                    step, deadline = message, time.monotonic() + message.seconds
                yield message
            if code := _wait(process, deadline, step):
                raise StepFailed(step.name, f"ended the process with code {code}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class _Lines:
    """The lines of a pipe, read with a deadline."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._read = b""

    def read(self, deadline: float, step: Step) -> bytes | None:
        """Return the next line, or None at the end.

        Raises StepFailed after the deadline.
        """
        while b"\n" not in self._read:
            if not select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise _too_long(step)
            chunk = os.read(self._pipe, 65536)
            if not chunk:
                return None
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line


def _wait(process: subprocess.Popen[bytes], deadline: float, step: Step) -> int:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _too_long(step) from None


def _too_long(step: Step) -> StepFailed:
    return StepFailed(step.name, f"did not end within {step.seconds:g} s")
