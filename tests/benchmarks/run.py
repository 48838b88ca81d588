"""Benchmarks: `python -m tests.benchmarks.run [NAME …]` prints figures and writes JSON to bench-results/.

Every ratio compares two figures of the same run on the same machine. Each benchmark has real servers of its
own. Progress is shown on stderr, one line per step. Exits with 1 if a benchmark failed, after the others ran.
"""

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from antiphon.cli.errors import StackError
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.migrations import migrate

from .report import Result, Servers, Step
from .watch import StepFailed, watch

RESULTS = Path("bench-results")
BENCHMARKS = {
    "create": "tests.benchmarks.create",
    "recorder": "tests.benchmarks.recorder",
    "tools": "tests.benchmarks.tools",
    "ingest": "tests.benchmarks.ingest",
    "locked": "tests.benchmarks.locked",
    "partition": "tests.benchmarks.partition",
    "lag": "tests.benchmarks.lag",
    "views": "tests.benchmarks.views",
    "rebuild": "tests.benchmarks.rebuild",
    "verify": "tests.benchmarks.verify",
    "growth": "tests.benchmarks.growth",
    "replicas": "tests.benchmarks.replicas",
    "requests": "tests.benchmarks.requests",
    "sse": "tests.benchmarks.sse",
    "travel": "tests.benchmarks.travel",
    "feed": "tests.benchmarks.feed",
    "voice": "tests.benchmarks.voice",
    "flow": "tests.benchmarks.flow",
    "tree": "tests.benchmarks.tree",
    "turns": "tests.benchmarks.turns",
    "answer": "tests.benchmarks.answer",
    "export": "tests.benchmarks.export",
    "rest": "tests.benchmarks.rest",
    "footprint": "tests.benchmarks.footprint",
    "call": "tests.benchmarks.call",
    "stored": "tests.benchmarks.stored",
    "telemetry": "tests.benchmarks.telemetry",
}
ROW = "{:<62}{:>18}  {:<36}{:>6}  {:<20}{}"


class Progress:
    """Progress lines on stderr."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", file=sys.stderr, flush=True)


def measure(name: str, progress: Progress) -> Iterator[Result]:
    """Run one benchmark on servers of its own.

    Raises StepFailed; StackError when a server does not start.
    """
    with _servers(lambda text: progress(f"{name}: {text}")) as servers:
        for message in watch(BENCHMARKS[name], servers):
            if isinstance(message, Step):
                progress(f"{name}: {message.name} (at most {message.seconds:g} s)")
            else:
                yield message


@contextmanager
def _servers(progress: Callable[[str], None]) -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="bench") as text:
        folder = Path(text)
        folder.chmod(0o755)
        nats, postgres = NatsServer(folder / "nats"), Postgres(folder / "postgres")
        try:
            progress("start NATS and Postgres")
            nats.start()
            postgres.start()
            dsn = postgres.dsn_of("postgres")
            migrate(dsn)
            yield Servers(nats.url, dsn, text)
        finally:
            progress("stop NATS and Postgres")
            postgres.stop()
            nats.stop()


def row(result: Result) -> str:
    """Format a figure as a line."""
    relation = "≥" if result.better == "higher" else "≤"
    unit = "x" if result.compared == "ratio" else result.unit
    return ROW.format(
        result.name,
        f"{result.value:,.4g} {result.unit}",
        "" if result.baseline is None else f"{result.baseline:,.4g} {result.baseline_name}",
        "" if result.ratio is None else f"{result.ratio:.2f}",
        "" if result.target is None else f"{relation} {result.target:g} {unit}",
        {True: "reached", False: "not reached", None: ""}[result.reached],
    ).rstrip()


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; print and write their figures.

    Returns the exit code.
    """
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"unknown benchmark {unknown[0]!r}; defined: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    progress = Progress()
    results: list[Result] = []
    failed: dict[str, str] = {}
    print(ROW.format("what", "value", "baseline", "ratio", "target", "").rstrip(), flush=True)
    for name in names or BENCHMARKS:
        try:
            for result in measure(name, progress):
                print(row(result), flush=True)
                results.append(result)
        except (StepFailed, StackError) as error:
            progress(f"{name} failed: {error}")
            failed[name] = str(error)
    _write(results, failed)
    for name, why in failed.items():
        print(f"{name} failed: {why}", file=sys.stderr)
    return 1 if failed else 0


def _write(results: list[Result], failed: dict[str, str]) -> None:
    rows = [msgspec.structs.asdict(r) | {"ratio": r.ratio, "reached": r.reached} for r in results]
    about = {"at": datetime.now(UTC).isoformat(), "machine": platform.machine()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(about | {"results": rows, "failed": failed}, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
