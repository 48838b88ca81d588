from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.screen import out, says_why
from antiphon.cli.settings import StackSettings


@says_why
def down() -> None:
    """Stop the stack in good order. What it has stored stays."""
    stack = EmbeddedStack(load(StackSettings))
    with out.status("Stopping"):
        stopped = stack.stop()
    what = "stopped" if stopped else "was not up"
    out.print(Text(f"The stack in {stack.settings.home} {what}."))
