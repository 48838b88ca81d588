class StackError(Exception):
    """A command failed; the message is for the user."""
