"""`make journeys-live` says what it leaves out, and runs nothing without a key."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.agent_worker.doubles.live import KEYS, plan

ROOT = Path(__file__).parents[3]


def test_services_with_a_key_are_run_and_the_others_are_named() -> None:
    assert plan({"OPENAI_API_KEY": "k"}) == (["openai"], ["SKIPPED deepgram: DEEPGRAM_API_KEY is not set"])
    assert plan({"OPENAI_API_KEY": "k", "DEEPGRAM_API_KEY": "k"}) == (["openai", "deepgram"], [])
    assert plan({"OPENAI_API_KEY": " "})[0] == []


def test_without_a_key_nothing_is_run() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in KEYS.values()}

    done = subprocess.run(
        [sys.executable, "-m", "tests.agent_worker.doubles.live"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "SKIPPED openai: OPENAI_API_KEY is not set",
        "SKIPPED deepgram: DEEPGRAM_API_KEY is not set",
        "No journey was run: set at least one, as in `OPENAI_API_KEY=sk-… make journeys-live`.",
    ]


def test_make_runs_it() -> None:
    recipe = re.search(r"^journeys-live:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert "-m tests.agent_worker.doubles.live $(ARGS)" in recipe[1]
