"""Each package alone in an empty environment: it installs from its wheel, and does what it is for.

`python -m tools.release.alone WHEELS` installs contracts, recorder, client and cli one after the other.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from tools.release.version import ROOT

INSTALL_SECONDS = 600
RUN_SECONDS = 120
PIN = re.compile(r"^[A-Za-z0-9][\w.-]*==[^\\]+", re.MULTILINE)
# A small real use of each package, run in its environment.
USES = {
    package: Path(__file__).parent / "uses" / f"{package}.py"
    for package in ("contracts", "recorder", "client", "cli")
}


class Environment:
    """An empty virtual environment, without pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)

    def install(self, requirement: str, wheels: Path, constraints: Path) -> None:
        """Install one of our packages from its wheel, and its dependencies in the locked versions.

        Raises RuntimeError with what pip says.
        """
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-compile",
        ]
        sources = ["--only-binary", ":all:", "--find-links", str(wheels), "--constraint", str(constraints)]
        _run([*pip, *sources, requirement], INSTALL_SECONDS, f"{requirement} was not installed")

    def run(self, code: str) -> str:
        """Run a one-line program and return its output. Raises RuntimeError with its errors."""
        return self._python("-c", code)

    def use(self, package: str) -> str:
        """Use a package for what it is for; return what it printed. Raises RuntimeError with its errors."""
        return self._python(str(USES[package]))

    def distributions(self) -> dict[str, Distribution]:
        """Return the installed distributions by name."""
        path = self.run("import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        return {canonicalize_name(d.name): d for d in distributions(path=[path])}

    def _python(self, *arguments: str) -> str:
        return _run(
            [str(self.python), "-I", *arguments], RUN_SECONDS, "the package does not work", self.folder
        )


def _run(command: list[str], seconds: float, what: str, folder: Path | None = None) -> str:
    # a session of its own: pip starts another pip, which a kill of the first would leave behind
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{what}: it took longer than {seconds:g} s") from None
        finally:
            if process.poll() is None:  # after Ctrl-C too, which does not reach the other session
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{what}:\n{errors}")
    return output


def write_constraints(path: Path, wheels: Path, root: Path = ROOT) -> Path:
    """Write the locked versions without hashes, since the lock has none for our wheels.

    Ours are pinned to these files: an index may have other versions of them, also later ones.
    """
    pins = [pin.strip() for pin in PIN.findall((root / "requirements.lock").read_text())]
    ours = [
        f"{parse_wheel_filename(wheel.name)[0]} @ {wheel.resolve().as_uri()}"
        for wheel in sorted(wheels.glob("*.whl"))
    ]
    path.write_text("\n".join([*pins, *ours]) + "\n")
    return path


def check(wheels: Path, progress: Callable[[str], None]) -> None:
    """Install and use each package in an environment of its own. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="alone") as text:
        constraints = write_constraints(Path(text) / "constraints.txt", wheels)
        for package in USES:
            environment = Environment(Path(text) / package)
            environment.install(f"antiphon-{package}", wheels, constraints)
            said = environment.use(package).strip().splitlines()[-1]
            progress(f"{package}, {len(environment.distributions())} distributions: {said}")


if __name__ == "__main__":
    check(Path(sys.argv[1]), print)
