from rich.text import Text

from antiphon.screen import out, says_why
from antiphon.settings import StackSettings
from antiphon.stack.build import VERSION, Progress, find_livekit
from chassis.settings import load


@says_why
def livekit() -> None:
    """Find livekit-server, or build it once, and print where it is."""
    with out.status("Looking for livekit-server") as spinner:
        program = find_livekit(load(StackSettings).cache, lambda progress: spinner.update(told(progress)))
    out.print(Text(str(program)))


def told(progress: Progress) -> str:
    """Say in a line how far a build is."""
    if progress.waiting:
        return f"Waiting for another build of livekit-server, {progress.seconds:.0f} s"
    counts = f"{progress.modules} modules downloaded, {progress.packages} packages compiled"
    return f"Building livekit-server {VERSION}, once: {counts}, {progress.seconds:.0f} s"
