from rich.text import Text

from antiphon.embedded import EmbeddedStack
from antiphon.screen import out, says_why
from antiphon.settings import StackSettings
from chassis.settings import load


@says_why
def down() -> None:
    """Stop the stack in good order. What it has stored stays."""
    stack = EmbeddedStack(load(StackSettings))
    with out.status("Stopping"):
        stopped = stack.stop()
    what = "stopped" if stopped else "was not up"
    out.print(Text(f"The stack in {stack.settings.home} {what}."))
