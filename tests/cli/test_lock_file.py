import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"


def _requirements(text: str) -> list[str]:
    """Return one string per requirement, with its hashes."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines).strip())


def faults(text: str) -> list[str]:
    """Return the lines with an index or an address, and the requirements without a pin or a hash."""
    found = [f"names an address: {line}" for line in text.splitlines() if "://" in line or "index" in line]
    return found + [
        f"not pinned with a hash: {requirement.splitlines()[0]}"
        for requirement in _requirements(text)
        if "==" not in requirement or "--hash=sha256:" not in requirement
    ]


@pytest.mark.parametrize("lock", [LOCK, ROOT / "deploy/images/tools.lock"], ids=lambda lock: lock.name)
def test_lock_names_no_index_and_hashes_every_pin(lock: Path) -> None:
    assert faults(lock.read_text()) == []


def test_jsonschema_starts_without_its_grammar_of_addresses() -> None:
    # jsonschema imports it when it is installed: seconds of each start of an agent worker
    assert "rfc3987-syntax" not in LOCK.read_text()


def test_faults_are_found() -> None:
    assert faults("--index-url https://mirror/simple\n")
    assert faults("rich>=13 \\\n    --hash=sha256:00\n")
    assert faults("rich==13.0\n")
    assert not faults("rich==13.0 \\\n    --hash=sha256:00\n    # via typer\n")
