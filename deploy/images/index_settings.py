"""How pip reaches its index on this machine, as files that a build mounts as secrets.

`pip config list` gives what holds here, from every file and variable. What names a path of this machine stays
here, but for the certificates: they are copied.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

CONFIG = "pip.conf"
CERTIFICATES = "ca.crt"
MOUNTED = "/run/secrets"  # where a build finds them
TAKEN = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SECONDS = 60.0


def settings_of(listed: str) -> dict[str, str]:
    """Return the settings in the output of `pip config list`; of two with one name, the stronger one."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=_strength):
        key, separator, value = line.partition("=")
        if separator:
            found[key.rpartition(".")[2]] = str(ast.literal_eval(value))
    return found


def _strength(line: str) -> int:
    # variables win over the section of a command, and that over [global]
    return 2 if line.startswith(":env:") else 0 if line.startswith("global.") else 1


def config_of(settings: Mapping[str, str], *, certificates: bool) -> str:
    """Return a configuration file with what the build takes over; empty if there is nothing."""
    taken = {
        ("timeout" if name == "default-timeout" else name): settings[name]
        for name in TAKEN
        if name in settings
    }
    if certificates:
        taken["cert"] = f"{MOUNTED}/{CERTIFICATES}"
    lines = [f"{name} = {' '.join(value.split())}\n" for name, value in taken.items()]
    return "".join(["[global]\n", *lines]) if lines else ""


def write(folder: Path) -> Iterator[Path]:
    """Write the secrets into a folder that nobody else reads; yield those that there are."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    ).stdout  # fmt: skip
    settings = settings_of(listed)
    found = [settings.get("cert"), *(os.environ.get(name) for name in CERTIFICATE_VARIABLES)]
    certificates = next((Path(name) for name in found if name), None)
    config = config_of(settings, certificates=certificates is not None)
    if config:
        (folder / CONFIG).write_text(config)
        yield folder / CONFIG
    if certificates is not None:
        (folder / CERTIFICATES).write_bytes(certificates.read_bytes())
        yield folder / CERTIFICATES
