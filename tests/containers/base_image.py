"""A slim Debian with Python 3.11, in the place of the official `python:3.11-slim`, which tests do not pull.

`debootstrap` makes it; the archive is kept in the cache folder, for every engine.
"""

import hashlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.containers.engine import CACHE, Engine

from antiphon.cli.errors import StackError
from antiphon.cli.home import lock_file

NAME = "antiphon.test/python:3.11-slim-bookworm"
LABEL = "antiphon.test.archive"
SUITE = "bookworm"  # whose Python is 3.11
PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
# as the official image: names without a version, a pip that installs into the system, no cache of packages
FINISH = """\
ln -s /usr/bin/python3 /usr/local/bin/python
ln -s /usr/bin/python3 /usr/local/bin/python3
ln -s /usr/bin/pip3 /usr/local/bin/pip
rm /usr/lib/python3.11/EXTERNALLY-MANAGED
cat > /etc/apt/apt.conf.d/docker-clean <<END
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/info/*
find /usr/share/locale -mindepth 1 -maxdepth 1 ! -name C.UTF-8 -exec rm -rf {} +
"""
SECONDS = 900.0
POLL_SECONDS = 1.0


def load(engine: Engine) -> str:
    """Import the image into the engine unless it is there; return its name."""
    kept = archive()
    if not engine.docker("image", "ls", "--quiet", "--filter", f"label={LABEL}={kept.name}", NAME):
        changes = [
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
            'CMD ["python3"]',
            f"LABEL {LABEL}={kept.name}",
        ]
        options = [part for change in changes for part in ("--change", change)]
        engine.docker("import", *options, str(kept), NAME)
    return NAME


def archive(cache: Path = CACHE) -> Path:
    """Return the archive of the system; make it unless it is in the cache."""
    made_of = hashlib.sha256(repr((SUITE, PACKAGES, FINISH)).encode()).hexdigest()[:12]
    kept = cache / f"{SUITE}-{made_of}.tar"
    deadline = time.monotonic() + SECONDS
    while not kept.exists():
        lock = lock_file(cache / "archive.lock")
        if lock is None:  # another run makes it
            if time.monotonic() > deadline:
                raise StackError(f"{kept} is still being made by another run after {SECONDS:g} s")
            time.sleep(POLL_SECONDS)
            continue
        with lock:
            if not kept.exists():
                _make(kept)
    return kept


def _make(kept: Path) -> None:
    print(f"containers: making the base system (debootstrap {SUITE}, about three minutes, once)", flush=True)
    draft = kept.with_suffix(".draft")
    work = Path(tempfile.mkdtemp(prefix="system-", dir=kept.parent))
    try:
        include = f"--include={','.join(PACKAGES)}"
        _run("debootstrap", "--variant=minbase", include, SUITE, str(work))
        _run("chroot", str(work), "/bin/sh", "-ec", FINISH)
        _run("tar", "--sort=name", "-cf", str(draft), "-C", str(work), ".")
        draft.replace(kept)
    finally:
        shutil.rmtree(work)
        draft.unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        text = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise StackError(f"{' '.join(command[:3])} failed with code {done.returncode}:\n{text}")
