"""What an image installs: what its service declares, from the entries of the lock."""

from pathlib import Path

import pytest
from deploy.images.build import SERVICES
from deploy.images.declared import UnknownPackage, declared
from deploy.images.install import LOCK, NotLocked, constraints_of, entries_of, locked, resolved

ROOT = Path(__file__).parents[2]
LOCKED = """\
one==1.0 \\
    --hash=sha256:11
two[extra]==2.0 ; python_version < '3.12' \\
    --hash=sha256:21 \\
    --hash=sha256:22
two[extra]==2.1 ; python_version >= '3.12' \\
    --hash=sha256:23
"""


def test_a_lock_gives_constraints_without_extras_and_hashes() -> None:
    assert constraints_of(LOCKED).splitlines() == [
        "one==1.0",
        "two==2.0 ; python_version < '3.12'",
        "two==2.1 ; python_version >= '3.12'",
    ]


def test_what_was_resolved_is_installed_with_the_hashes_of_the_lock() -> None:
    chosen = locked(LOCKED, [("Two", "2.1"), ("one", "1.0")])

    assert chosen.count("--hash") == 2
    assert "sha256:11" in chosen
    assert "sha256:23" in chosen


@pytest.mark.parametrize("found", [("three", "1.0"), ("one", "1.1"), ("one", "1"), ("two", "2.2")])
def test_what_the_lock_lacks_is_refused(found: tuple[str, str]) -> None:
    with pytest.raises(NotLocked, match=f"{found[0]}=={found[1]}.*make lock"):
        locked(LOCKED, [found])


def test_a_wheel_names_what_it_is() -> None:
    assert resolved("pydantic_core-2.50.4-cp311-cp311-manylinux_2_17_x86_64.whl") == (
        "pydantic_core",
        "2.50.4",
    )
    assert resolved("one-1.0_local.1-py3-none-any.whl") == ("one", "1.0+local.1")


def test_every_entry_of_the_lock_is_read() -> None:
    lock = LOCK.read_text()
    entries = [entry for found in entries_of(lock).values() for entry in found]

    assert sum(entry.count("--hash=") for entry in entries) == lock.count("--hash=")
    assert len(entries) == len(constraints_of(lock).splitlines())


def test_a_service_declares_with_its_packages_and_their_extras() -> None:
    found = declared(ROOT, "session-api")

    assert [path.name for path in found.folders] == ["contracts", "chassis", "session-api"]
    assert "asyncpg==0.32.0" in found.requirements  # of the extra that it names
    assert not any(
        each.startswith(("faststream", "livekit-agents", "antiphon")) for each in found.requirements
    )


@pytest.mark.parametrize("service", SERVICES)
def test_the_folder_of_a_service_is_the_last_one(service: str) -> None:
    assert declared(ROOT, service).folders[-1] == ROOT / "services" / service


def test_an_unknown_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "services" / "lonely").mkdir(parents=True)
    project = '[project]\nname = "antiphon-lonely"\ndependencies = ["antiphon-gone"]\n'
    (tmp_path / "services" / "lonely" / "pyproject.toml").write_text(project)

    with pytest.raises(UnknownPackage, match="antiphon-gone is required"):
        declared(tmp_path, "lonely")
