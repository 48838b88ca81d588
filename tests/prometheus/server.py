"""A real Prometheus that scrapes and evaluates once a second."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tests.deploy.alert_rules import FILES
from tests.prometheus.programs import Programs

from antiphon.cli.stack import process
from antiphon.cli.stack.ports import free_port

START_SECONDS = 60.0
WAIT_SECONDS = 120.0
ANSWER_SECONDS = 20.0
POLL_SECONDS = 0.2
FOR = re.compile(r"(?<= for: )\d+[smh]")
Found = TypeVar("Found")


class Prometheus:
    """A server with the rules of deploy/prometheus, whose alerts fire after a second."""

    def __init__(self, programs: Programs, folder: Path, targets: Mapping[str, str]) -> None:
        self.port = free_port()
        self._log = folder / "prometheus.log"
        rules = folder / "rules"
        rules.mkdir()
        for file in FILES:
            (rules / file.name).write_text(FOR.sub("1s", file.read_text()))
        configuration = folder / "prometheus.yaml"
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
        ]
        often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration.write_text(
            yaml.safe_dump({"global": often, "rule_files": [f"{rules}/*.yaml"], "scrape_configs": jobs})
        )
        self._command = process.Command(
            argv=(
                str(programs.prometheus),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ),
            environment={"PATH": "/usr/bin:/bin"},
            directory=folder,
        )
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._process = process.spawn(self._command, self._log)
        self.wait(self._ready, "Prometheus to be ready", seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop it and remove its data."""
        if self._process:
            process.stop(self._process, self._command.stop_signals, timeout_seconds=START_SECONDS)
        shutil.rmtree(self._data, ignore_errors=True)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of a query of now; fail the test if Prometheus refuses it."""
        encoded = urllib.parse.urlencode({"query": expression})
        found: list[dict[str, Any]] = self.ask(f"query?{encoded}")["result"]
        return found

    def ask(self, question: str) -> Any:
        """Return an answer of the API; fail the test with an error of it."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{question}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{question}: {error.read().decode()}") from None
        assert document["status"] == "success", document
        return document["data"]

    def wait(self, look: Callable[[], Found], what: str, *, seconds: float = WAIT_SECONDS) -> Found:
        """Look until the result is true, and return it; fail the test at the deadline."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            ended = self._process is None or self._process.poll() is not None
            assert not ended, process.last_lines(self._log)
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
            time.sleep(POLL_SECONDS)
        return found

    def _ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/-/ready"
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
