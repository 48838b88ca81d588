"""The command that prints the users of NATS: a real server accepts it, and wrong names are refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from antiphon.persistence.cli import app

SERVER = Path(sys.prefix) / "bin" / "nats-server"


def _printed(*options: str) -> str:
    result = CliRunner().invoke(app, ["nats-users", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_server_accepts_the_configuration(tmp_path: Path) -> None:
    options = ("--tenant", "acme", "--tenant", "other", "--consumer", "slow-answers", "--max-file", "2GB")
    config = _printed(*options)
    (tmp_path / "nats.conf").write_text(f"jetstream {{ store_dir: store }}\n{config}")
    variables = re.findall(r"\$(NATS_[A-Z_]+)", config)
    environment = {**os.environ, **dict.fromkeys(variables, "n1")}

    command = [str(SERVER), "-t", "-c", "nats.conf"]
    checked = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert {"NATS_TENANT_ACME_PASSWORD", "NATS_CONSUMER_SLOW_ANSWERS_PASSWORD"} <= set(variables)
    assert "max_file: 2147483648" in config


def test_the_data_names_each_user_with_its_subjects() -> None:
    found = json.loads(_printed("--format", "json", "--tenant", "acme", "--consumer", "own"))["accounts"]

    assert {name for name, account in found.items() if account["connections"]} == {"CONSUMER_own"}
    tenant = next(user for user in found["ANTIPHON"]["users"] if user["name"] == "tenant-acme")
    assert (tenant["publish"], tenant["subscribe"]) == ([], ["sessions.*.acme.>"])
    assert {name for name, account in found.items() if account["jetstream"]} == {"ANTIPHON"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--tenant", "*"), "not the name of a tenant"),
        (("--tenant", "acme.>"), "not the name of a tenant"),
        (("--consumer", "ingest"), "is taken"),
        (("--consumer", "a-b", "--consumer", "a_b"), "share a password"),
        (("--max-file", "much"), "a number of bytes"),
        (("--format", "xml"), "one of config, json"),
    ],
)
def test_a_wrong_option_is_refused(options: tuple[str, ...], reason: str) -> None:
    result = CliRunner().invoke(app, ["nats-users", *options])

    assert result.exit_code == 2
    assert reason in " ".join(result.output.replace("│", " ").split())
