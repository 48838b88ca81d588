"""Write the dashboards, and the copies of dashboards and rules that the Helm chart has, or check them.

    python -m tools.dashboards [--check]
    python -m tools.dashboards --docs-url https://docs.example.com --into FOLDER

With a folder: dashboards and rules whose links lead to your copy of the documentation.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tools.dashboards.calls import CALLS
from tools.dashboards.log import LOG
from tools.dashboards.on_call import ON_CALL
from tools.dashboards.overview import OVERVIEW
from tools.dashboards.panels import DOCS, build

ROOT = Path(__file__).parents[2]
DASHBOARDS = (ON_CALL, OVERVIEW, CALLS, LOG)
RULES = ROOT / "deploy" / "prometheus" / "rules"
GRAFANA = ROOT / "deploy" / "grafana" / "dashboards"
CHART = ROOT / "deploy" / "helm" / "antiphon" / "files"


def files() -> Iterator[tuple[str, str]]:
    """Yield each file of dashboards and rules: its path in a folder, and its text."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    for each in DASHBOARDS:
        yield f"dashboards/{each.uid.removeprefix('antiphon-')}.json", encoder.encode(build(each)) + "\n"
    for path in sorted(RULES.glob("*.yaml")):
        yield f"rules/{path.name}", path.read_text()


def targets() -> dict[Path, str]:
    """Return the generated files of the checkout, with their text."""
    found = {CHART / name: text for name, text in files()}
    return found | {GRAFANA / Path(name).name: text for name, text in files() if name.endswith(".json")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboards", description="Write the dashboards.")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a file is another one")
    parser.add_argument("--docs-url", default=DOCS, help="where the site of `make docs` is")
    parser.add_argument("--into", type=Path, help="a folder for dashboards and rules of your own")
    options = parser.parse_args(arguments)
    if options.docs_url != DOCS and options.into is None:
        parser.error("--docs-url needs --into, a folder: the files of the checkout keep their links")
    wanted = targets()
    if options.into is not None:
        url = options.docs_url.rstrip("/")
        wanted = {options.into / name: text.replace(DOCS, url) for name, text in files()}
    if options.check:
        stale = [str(path) for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        if stale:
            print(f"not those of tools/dashboards: {', '.join(stale)}; run make contracts", file=sys.stderr)
        return 1 if stale else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
