"""Measure: `python -m tests.benchmarks.run [NAME …]` prints a table and writes JSON to bench-results/.

Every ratio is of two figures of the same run on the same machine; the servers are real, and its own.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.migrations import migrate

from . import create, ingest, lag, recorder
from .result import Result

RESULTS = Path("bench-results")


@dataclass(frozen=True, slots=True)
class Servers:
    """Say where the servers of one benchmark are."""

    nats_url: str
    dsn: str


async def _create(servers: Servers, folder: Path) -> list[Result]:
    results = await create.run(servers.nats_url)
    with EmbeddedStack(isolated_settings(folder / "stack")) as stack:
        where = stack.status().addresses
        return results + await create.run_with_livekit(where)


BENCHMARKS: dict[str, Callable[[Servers, Path], Coroutine[None, None, list[Result]]]] = {
    "create": _create,
    "recorder": lambda servers, _: recorder.run(servers.nats_url),
    "ingest": lambda servers, _: ingest.run(servers.nats_url, servers.dsn),
    "lag": lambda servers, _: lag.run(servers.nats_url, servers.dsn),
}


def measure(name: str) -> list[Result]:
    """Run one benchmark on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="bench") as text:
        folder = Path(text)
        folder.chmod(0o755)
        nats, postgres = NatsServer(folder / "nats"), Postgres(folder / "postgres")
        nats.start()
        postgres.start()
        try:
            dsn = postgres.dsn_of("postgres")
            migrate(dsn)
            return uvloop.run(BENCHMARKS[name](Servers(nats.url, dsn), folder))
        finally:
            postgres.stop()
            nats.stop()


def table(results: list[Result]) -> Table:
    """Lay the results out as a table."""
    laid = Table("what", "value", "baseline", "ratio", "target", "")
    for result in results:
        relation = "≥" if result.better == "higher" else "≤"
        unit = "x" if result.judged == "ratio" else result.unit
        baseline = "" if result.baseline is None else f"{result.baseline:,.4g} {result.baseline_name}"
        laid.add_row(
            result.name,
            f"{result.value:,.4g} {result.unit}",
            baseline,
            "" if result.ratio is None else f"{result.ratio:.2f}",
            "" if result.target is None else f"{relation} {result.target:g} {unit}",
            {True: "reached", False: "short", None: ""}[result.reached],
        )
    return laid


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all, and print and write what they found."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"no benchmark is named {unknown[0]}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    results = [result for name in names or BENCHMARKS for result in measure(name)]
    Console(width=140).print(table(results))
    rows = [asdict(r) | {"ratio": r.ratio, "reached": r.reached} for r in results]
    document = {"at": datetime.now(UTC).isoformat(), "machine": platform.machine(), "results": rows}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
