"""Run `make up` and a selection of the tests on Debian trixie (Python 3.13), as an ordinary user.

    python -m tests.platforms.trixie --help

The chroot, made by `debootstrap`, has the packages that the README requires, a copy of the working tree, and
an ordinary user. Steps that need a network (pip, Go's modules) run first; the stack and the tests run without
one. Each step has its own namespaces, so the kernel ends its processes and mounts with it. The base system
and livekit-server are cached in the cache folder; everything else is removed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
# required by the README; a minimal base lacks the certificates that git otherwise brings
PACKAGES = ("python3", "python3-venv", "make", "git", "ca-certificates")
USER, UID = "visitor", 1000
HOME = f"/home/{USER}"
CHECKOUT = f"{HOME}/antiphon"
TESTS = (
    "tests/contracts",
    "tests/chassis",
    "tests/recorder",
    "tests/agent_worker/flow",
    "tests/agent_worker/providers",
    "tests/cli/stack",
)
NEEDED = {
    "debootstrap": "debootstrap",
    "git": "git",
    "ip": "iproute2",
    "tar": "tar",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
# configuration for the package index, Go's modules and host names
PASSED_ON = ("PIP_", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "SSL_CERT_FILE")
LOCAL_PATHS = ("PIP_FIND_LINKS", "PIP_CACHE_DIR", "PIP_CONFIG_FILE")  # of this machine
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
SYSTEM_FILES = ("/etc/pip.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
USER_FILES = (".config/pip/pip.conf", ".pip/pip.conf", ".config/go/env")

# the init process of the namespaces: it mounts, switches to the user, and reaps orphans
ENTER = """\
set -e
mount -t proc proc "$1/proc"
mkdir -p "$1/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
if [ "$2" = offline ]; then
    ip link set lo up
    # WebRTC does not use the loopback interface, so add another one
    ip link add lan0 type veth peer name lan1
    ip address add 192.0.2.1/24 dev lan0
    ip link set lan0 up
    ip link set lan1 up
fi
chroot "$1" setpriv --reuid="$4" --regid="$4" --clear-groups --no-new-privs /bin/sh -c "cd $5 && $3"
"""


def main() -> int:
    """Run all steps and return the exit code."""
    options = _options()
    if why := _missing():
        print(f"test-platforms: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the clean-up below runs
    options.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=options.cache))
    try:
        _run(options, work)
    except subprocess.TimeoutExpired as error:
        print(f"test-platforms: the step did not finish in {error.timeout:g} s", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"test-platforms: the step failed with code {error.returncode}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work)
    print("test-platforms: every step passed", flush=True)
    return 0


def _options() -> argparse.Namespace:
    cache = Path("/var/cache/antiphon/platforms")
    parser = argparse.ArgumentParser(
        prog="test-platforms", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=cache, help=f"the cache folder ({cache})")
    parser.add_argument("--mirror", help="a Debian mirror, in place of that of debootstrap")
    parser.add_argument("--build-livekit", action="store_true", help="build livekit-server, cached or not")
    return parser.parse_args()


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "making a chroot needs root: sudo make test-platforms"
    packages = {package for program, package in NEEDED.items() if shutil.which(program) is None}
    return f"missing programs: apt-get install {' '.join(sorted(packages))}" if packages else None


def _run(options: argparse.Namespace, work: Path) -> None:
    system, kept = work / "system", options.cache / "livekit"
    cached = Path(f"{system}{HOME}/.cache/antiphon")
    base = options.cache / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if not base.exists():
        _make_base(work / "base", base, options.mirror)
    system.mkdir()
    _step("unpack the base system", 120, ["tar", "-xf", str(base), "-C", str(system)])
    _copy_checkout(work / "checkout.tar", system)
    _copy_configuration(system)
    if kept.exists() and not options.build_livekit:
        shutil.copytree(kept, cached)
    owner = ["chroot", str(system), "chown", "-R", f"{USER}:{USER}", HOME]
    _step("hand over to the user", 60, owner)
    _inside("system and user", 60, system, "cat /etc/debian_version; python3 --version; uname -m; id")
    _inside("make install", 1200, system, "make install")
    _inside("livekit-server, found or built", 1800, system, ".venv/bin/antiphon livekit")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(cached, kept)
    _inside("make up, make down", 600, system, "{ make up; code=$?; make down; exit $code; }", offline=True)
    _inside("tests", 900, system, f".venv/bin/pytest -q {' '.join(TESTS)}", offline=True)


def _make_base(folder: Path, base: Path, mirror: str | None) -> None:
    packages = f"--include={','.join(PACKAGES)}"
    made = ["debootstrap", "--variant=minbase", packages, SUITE, str(folder), *filter(None, [mirror])]
    _step("make the base system", 900, made, quiet=True)
    user = ["chroot", str(folder), "useradd", "--create-home", f"--uid={UID}", "--shell=/bin/sh", USER]
    _step("add an ordinary user", 60, user)
    draft = base.with_suffix(".draft")
    _step("keep the base system", 120, ["tar", "-cf", str(draft), "-C", str(folder), "."])
    draft.replace(base)
    shutil.rmtree(folder)


def _copy_checkout(archive: Path, system: Path) -> None:
    """Copy the tracked and the untracked, not ignored, files of the working tree."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    names_file = archive.with_suffix(".names")
    names_file.write_text("\0".join(names))
    pack = ["tar", "-cf", str(archive), "-C", str(ROOT), "--null", "-T", str(names_file)]
    _step("pack the working tree", 60, pack)
    Path(f"{system}{CHECKOUT}").mkdir()
    _step("unpack the working tree", 60, ["tar", "-xf", str(archive), "-C", f"{system}{CHECKOUT}"])


def _copy_configuration(system: Path) -> None:
    pairs = [(Path(name), Path(f"{system}{name}")) for name in SYSTEM_FILES]
    pairs += [(Path.home() / name, Path(f"{system}{HOME}/{name}")) for name in USER_FILES]
    for source, target in pairs:
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)


def _environment() -> dict[str, str]:
    own = {
        "HOME": HOME,
        "USER": USER,
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(PASSED_ON) or name.lower() in PROXIES) and name not in LOCAL_PATHS
    }
    return inherited | own


def _inside(name: str, seconds: float, system: Path, command: str, *, offline: bool = False) -> None:
    """Run a command in the chroot as the ordinary user, in the checkout."""
    network = "offline" if offline else "online"
    namespaces = ["--mount", "--pid", "--fork", "--kill-child=KILL", *(["--net"] if offline else [])]
    arguments = [str(system), network, command, str(UID), CHECKOUT]
    argv = ["unshare", *namespaces, "/bin/sh", "-c", ENTER, "enter", *arguments]
    _step(name, seconds, argv, environment=_environment())


def _step(
    name: str,
    seconds: float,
    argv: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    quiet: bool = False,
) -> None:
    """Run one step and print its duration; raise CalledProcessError or TimeoutExpired."""
    print(f"== {name} (at most {seconds:g} s)", flush=True)
    began = time.monotonic()
    output = subprocess.DEVNULL if quiet else None
    subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, timeout=seconds, check=True
    )
    print(f"== {name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
