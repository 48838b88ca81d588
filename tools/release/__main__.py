"""Make a release, and publish nothing: `python -m tools.release [--rehearse] [--folder FOLDER]`.

It checks that the checkout can be released, builds the packages, tries them, builds images and charts where
their tools are, and lists what the release consists of, with sizes and checksums. A rehearsal does the same
with a checkout that cannot be released, and says why.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.release import alone, packages, readiness
from tools.release.deployables import Missing, charts, images
from tools.release.version import ROOT, current

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
PARTS = {"python", "charts", MANIFEST, SUMS}  # what a folder of a release has


class Refused(Exception):
    """A release that is not made, and why."""


def make(folder: Path, *, rehearse: bool, base: str | None = None) -> dict[str, Any]:
    """Make the release in a folder and return its manifest. Raises Refused, Different, RuntimeError."""
    readiness.check_repository()
    version, problems = current(), readiness.problems()
    if problems and not rehearse:
        raise Refused(
            "\n".join([f"{version} cannot be released:", *problems, "--rehearse builds it nevertheless"])
        )
    commit, epoch = readiness.commit()
    empty(folder)
    _say("build the packages")
    built = packages.build(folder / "python", epoch=epoch, progress=lambda name: _say(f"  {name}"))
    faults = [
        fault
        for wheel in built
        if wheel.suffix == ".whl"
        for fault in packages.faults(packages.metadata(wheel))
    ]
    if faults:
        raise Refused("\n".join(["the packages have wrong metadata:", *faults]))
    _say("install and use each alone in an empty environment")
    alone.check(folder / "python", lambda text: _say(f"  {text}"))
    left_out = {f"release: {number}": text for number, text in enumerate(problems, 1)}
    _say("package the charts")
    try:
        left_out |= charts(folder / "charts", version)
    except Missing as error:
        left_out["charts"] = str(error)
    _say("build the images")
    built_images: list[dict[str, str]] = []
    try:
        built_images = images(version, base=base)
    except Missing as error:
        left_out["images"] = str(error)
    manifest = {
        "version": version,
        "tag": readiness.tag_of(version),
        "commit": commit,
        "files": files_of(folder),
        "images": built_images,
        "left_out": left_out,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    sums = [f"{file['sha256']}  {file['name']}" for file in files_of(folder)]
    (folder / SUMS).write_text("\n".join(sums) + "\n")
    return manifest


def empty(folder: Path) -> None:
    """Remove the release of before from a folder. Raises Refused if anything else is in it."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused(f"{folder} is no folder: name another with --folder")
    others = sorted({path.name for path in folder.iterdir()} - PARTS) if folder.exists() else []
    if others:
        raise Refused(f"{folder} has {others[0]!r}, which is of no release: name another with --folder")
    if folder.exists():
        shutil.rmtree(folder)


def files_of(folder: Path) -> list[dict[str, Any]]:
    """Return the name, size and checksum of each file."""
    return [
        {
            "name": str(path.relative_to(folder)),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def listing(manifest: dict[str, Any], folder: Path) -> str:
    """Return what a release consists of, as text for people."""
    lines = [f"Antiphon {manifest['version']}, commit {manifest['commit'][:12]}, in {folder}"]
    lines += [f"  {file['name']:<62}{file['bytes'] / 1024:>9,.1f} KiB" for file in manifest["files"]]
    lines += [f"  image {image['name']:<56}{image['size']:>13}" for image in manifest["images"]]
    lines += [f"not in it: {what}: {why}" for what, why in manifest["left_out"].items()]
    lines.append(f"check it: (cd {folder} && sha256sum --check {SUMS})")
    lines.append("nothing was published: docs/how-to/release.md says how")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Make a release; return the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--rehearse", action="store_true", help="build what cannot be released yet, too")
    parser.add_argument(
        "--folder", type=Path, help="where to (default: dist/<version>); a release that is there is replaced"
    )
    parser.add_argument("--base", help="the base of the images, in place of the one in the Dockerfiles")
    given = parser.parse_args(arguments)
    folder = (given.folder or ROOT / "dist" / current()).absolute()
    try:
        manifest = make(folder, rehearse=given.rehearse, base=given.base)
    except (Refused, packages.Different, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {folder} is not whole", file=sys.stderr)
        return 130
    print(listing(manifest, folder))
    return 0


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
