"""The distributions of our packages: sdists, and the wheels that are built from them."""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import trove_classifiers
from tools.release.version import ROOT, members

BUILD_SECONDS = 120
LINK = re.compile(r"\]\((?!https?://)([^)]*)\)")
REQUIRED = ("Summary", "License-Expression", "License-File", "Requires-Python", "Description-Content-Type")


class Different(Exception):
    """A wheel that is not the same when it is built again."""


def build(
    folder: Path, *, epoch: int, root: Path = ROOT, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Build the sdist and the wheel of each package into a folder.

    A wheel is built twice, from the sdist and from the tree. Raises Different when the bytes are not the
    same, RuntimeError with the output of a build that fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="release") as text:
        for member in members(root):
            progress(str(member.relative_to(root)))
            sdist = hatch(member, folder, "sdist", epoch)
            wheel = hatch(unpacked(sdist, Path(text)), folder, "wheel", epoch)
            again = hatch(member, Path(text) / "again", "wheel", epoch)
            if again.read_bytes() != wheel.read_bytes():
                names = ", ".join(differences(wheel, again))
                raise Different(f"{wheel.name} is not the same from its sdist and from the tree: {names}")
    return sorted(folder.iterdir())


def hatch(source: Path, folder: Path, kind: str, epoch: int) -> Path:
    """Build one distribution and return its file. Raises RuntimeError with the output of the build."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build", dir=folder) as built:
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", built]
        done = subprocess.run(
            command,
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the {kind} of {source.name} was not built:\n{done.stderr}{done.stdout}")
        [file] = Path(built).iterdir()
        return file.rename(folder / file.name)


def unpacked(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist and return its folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of the files that are not the same in two wheels."""
    contents = []
    for path in (one, other):
        with ZipFile(path) as wheel:
            contents.append({info.filename: (info.CRC, info.date_time) for info in wheel.infolist()})
    first, second = contents
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def metadata(wheel: Path) -> Message:
    """Return the metadata of a wheel, as a package index shows it."""
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def faults(shown: Message) -> Iterator[str]:
    """Describe what is wrong with the metadata of a distribution, as a package index shows it."""
    name = shown["Name"]
    for field in REQUIRED:
        if not shown[field]:
            yield f"{name} has no {field}"
    for classifier in shown.get_all("Classifier", []):
        if classifier not in trove_classifiers.classifiers or classifier.startswith("Private ::"):
            yield f"{name}: a package index refuses the classifier {classifier!r}"
    for requirement in shown.get_all("Requires-Dist", []):
        if "@" in requirement.partition(";")[0]:
            yield f"{name} requires a file or an address: {requirement!r}"
    for target in LINK.findall(str(shown.get_payload())):
        yield f"{name}: a link of its README leads nowhere on a package index: {target!r}"
