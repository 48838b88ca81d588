from pathlib import Path

from antiphon.cli.errors import StackError

# also what tells a stack's folder from any other
IGNORE = ".gitignore"


def claim(home: Path) -> None:
    """Make the folder of a stack's state: private, and ignored by git wherever it is.

    Raises StackError when it is a folder with something else in it.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = home / IGNORE
    if not mark.exists():
        if any(home.iterdir()):
            raise StackError(f"{home} holds something else: ANTIPHON_HOME must be a folder of its own")
        mark.write_text("*\n")
    home.chmod(0o700)
    (home / "logs").mkdir(exist_ok=True, mode=0o700)
