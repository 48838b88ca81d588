from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.screen import out, progress, says_why
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.build import VERSION, Progress, find_livekit


@says_why
def livekit() -> None:
    """Find livekit-server, or build it once, and print where it is."""
    with progress("Looking for livekit-server") as tell:
        program = find_livekit(load(StackSettings).cache, lambda build: tell(told(build)))
    out.print(Text(str(program)))


def told(build: Progress) -> str:
    """Say in a line how far a build is."""
    if build.waiting:
        return f"Waiting for another build of livekit-server, {build.seconds:.0f} s"
    counts = f"{build.modules} modules downloaded, {build.packages} packages compiled"
    return f"Building livekit-server {VERSION}, once: {counts}, {build.seconds:.0f} s"
