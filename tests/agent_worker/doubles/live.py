"""`make journeys-live`: the journeys of the providers against the real services, for the keys that are set.

A service without its key is skipped and named, which is no failure. The calls cost a few cents.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

KEYS = {"openai": "OPENAI_API_KEY", "deepgram": "DEEPGRAM_API_KEY"}
FILE = "tests/agent_worker/doubles/test_provider_journeys.py"


def plan(environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the services that have a key, and a line for each that has none."""
    live = [service for service, key in KEYS.items() if environment.get(key, "").strip()]
    missing = [f"SKIPPED {service}: {key} is not set" for service, key in KEYS.items() if service not in live]
    return live, missing


def main(arguments: list[str]) -> int:
    """Run the journeys; return pytest's status, or 0 without a key."""
    live, missing = plan(os.environ)
    for line in missing:
        print(line, flush=True)
    if not live:
        print("No journey was run: set at least one, as in `OPENAI_API_KEY=sk-… make journeys-live`.")
        return 0
    print(f"journeys against {' and '.join(live)}", flush=True)
    command = [sys.executable, "-m", "pytest", FILE, "-n", "0", "-v", "-k", " or ".join(live), *arguments]
    return subprocess.run(command, env=os.environ | {"ANTIPHON_LIVE": ",".join(live)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
