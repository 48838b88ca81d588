"""Look up the locked requirements in OSV, the database of known vulnerabilities, by pip-audit.

    python -m tools.dependencies.audit

pip-audit gets an environment of its own, within .venv, from its lock: it is needed nowhere else. Exits with
1 for a vulnerability that tools/dependencies/ignored.toml does not name. Without the network nothing is
audited, which is said and is no error, unless ANTIPHON_DEPENDENCY_AUDIT=required.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from deploy.images.install import ENTRY

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
TOOL_LOCK = FOLDER / "audit.lock"
LOCKS = (ROOT / "requirements.lock", ROOT / "deploy/images/tools.lock", TOOL_LOCK)
IGNORED = FOLDER / "ignored.toml"
INSTALL = ROOT / "cli/src/antiphon/cli/install.py"
REQUIRED = "ANTIPHON_DEPENDENCY_AUDIT"
INSTALL_SECONDS, AUDIT_SECONDS, REQUEST_SECONDS = 180, 600, 10
SHOWN = 5

Found = list[Mapping[str, Any]]


class Ignored(NamedTuple):
    """A vulnerability that is accepted until a day."""

    id: str
    reason: str
    expires: date


class InvalidList(Exception):
    """The list of ignored vulnerabilities is not valid; the message says why."""


class NotAudited(Exception):
    """Nothing was looked up; the message says why."""


def read_ignored(path: Path, today: date) -> list[Ignored]:
    """Return the ignored vulnerabilities.

    Raises InvalidList for an entry that has expired, or that lacks its reason or its day.
    """
    found = []
    for entry in tomllib.loads(path.read_text()).get("ignored", []):
        name, reason, expires = entry.get("id"), entry.get("reason"), entry.get("expires")
        if not name or not reason or not isinstance(expires, date):
            raise InvalidList(f"{path.name}: {name or entry} needs `id`, `reason` and `expires` (2027-01-31)")
        if expires < today:
            raise InvalidList(f"{path.name}: {name} expired on {expires}: upgrade, or look at it again")
        found.append(Ignored(name, reason, expires))
    return found


def pinned(locks: Iterable[str]) -> list[dict[str, str]]:
    """Return all names and versions of locks, for every platform: no file has a name twice."""
    files: list[dict[str, str]] = []
    pairs = {(match[1], match[2].split(";")[0].strip()) for lock in locks for match in ENTRY.finditer(lock)}
    for name, version in sorted(pairs):
        file = next((file for file in files if name not in file), None)
        if file is None:
            files.append(file := {})
        file[name] = version
    return files


def audit(
    command: Sequence[str], locks: Sequence[Path], ignored: Sequence[Ignored]
) -> list[Mapping[str, Any]]:
    """Return what pip-audit says about each requirement of the locks.

    Raises NotAudited.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
        for number, file in enumerate(pinned(lock.read_text() for lock in locks)):
            path = Path(folder) / f"{number}.txt"
            path.write_text("".join(f"{name}{version}\n" for name, version in file.items()))
            arguments += ["--requirement", str(path)]
        for entry in ignored:
            arguments += ["--ignore-vuln", entry.id]
        arguments += ["--timeout", str(REQUEST_SECONDS)]
        try:
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False
            )
            found: Found = json.loads(done.stdout)["dependencies"]
        except subprocess.TimeoutExpired as error:
            raise NotAudited(f"no answer within {AUDIT_SECONDS} s") from error
        except (json.JSONDecodeError, KeyError) as error:
            raise NotAudited((done.stderr.strip().splitlines() or ["no output"])[-1][:300]) from error
    return found


def report(found: Found) -> tuple[list[str], bool]:
    """Return what to print, and whether there are vulnerabilities.

    Raises NotAudited when a requirement was skipped: pip-audit counts that as no vulnerability.
    """
    skipped = [entry["name"] for entry in found if "skip_reason" in entry]
    if skipped or not found:
        names = ", ".join(skipped[:SHOWN]) + (" …" if len(skipped) > SHOWN else "")
        raise NotAudited(f"{len(skipped)} of {len(found)} requirements were skipped: {names}")
    lines = []
    for entry in found:
        for known in entry["vulns"]:
            names = " ".join([known["id"], *known.get("aliases", ())])
            fixed = ", ".join(known.get("fix_versions", ())) or "no version yet"
            lines.append(f"{entry['name']} {entry['version']}: {names}; fixed in {fixed}")
    return lines or [f"No known vulnerability in {len(found)} requirements."], bool(lines)


def tool() -> list[str]:
    """Return the command of pip-audit, in an environment of its own that is made once for each lock.

    Raises NotAudited.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = sha256(TOOL_LOCK.read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / "audit" / f"{version}-{digest}"
    python, ready = folder / "bin/python", folder / ".ready"
    if not ready.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-I", str(INSTALL), "--require-hashes", "--quiet", "-r", str(TOOL_LOCK)]
        try:
            made = subprocess.run(
                install, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotAudited(f"pip-audit was not installed within {INSTALL_SECONDS} s") from error
        if made.returncode != 0:
            why = (made.stderr.strip().splitlines() or ["pip said nothing"])[-1][:300]
            raise NotAudited(f"pip-audit could not be installed: {why}")
        ready.touch()
    return [str(python), "-m", "pip_audit", "--vulnerability-service", "osv"]


def main() -> int:
    """Audit, print, and return the exit code."""
    try:
        ignored = read_ignored(IGNORED, datetime.now(UTC).date())
        lines, failed = report(audit(tool(), LOCKS, ignored))
    except InvalidList as error:
        print(error, file=sys.stderr)
        return 1
    except NotAudited as error:
        print(f"The dependencies were NOT audited: {error}", file=sys.stderr)
        return 1 if os.environ.get(REQUIRED) == "required" else 0
    for line in lines:
        print(line, file=sys.stderr if failed else sys.stdout)
    if failed:
        print("Upgrade (make lock), or name it in tools/dependencies/ignored.toml.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
