"""The work of `antiphon flow`: write, check, try, test, compare and publish flow files."""
