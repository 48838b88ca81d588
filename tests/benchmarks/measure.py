"""The process of one benchmark: `python -m tests.benchmarks.measure MODULE PIPE SERVERS`.

It reports through the pipe, whose reader enforces the deadlines, and ends with the process that started it.
"""

import importlib
import os
import signal
import sys
import threading

import msgspec
import uvloop

from .report import Report, Servers

END_SECONDS = 60.0


def main(module: str, pipe: int, servers: Servers) -> None:
    """Run the benchmark of a module to its end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(pipe, "wb") as reports:
        report = Report(reports)
        report.step("import the code", seconds=END_SECONDS)
        benchmark = importlib.import_module(module)
        uvloop.run(benchmark.run(servers, report))
        report.step("end", seconds=END_SECONDS)


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent has ended
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Servers))
