class StackError(Exception):
    """The embedded stack cannot do what was asked."""


class PortTaken(StackError):
    """A port that the stack needs belongs to another process."""
