class StackError(Exception):
    """The embedded stack cannot do what was asked; the message is for the user."""
