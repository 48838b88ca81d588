import stat
from pathlib import Path

import pytest

from antiphon.cli.errors import StackError
from antiphon.cli.home import claim


def test_new_folder_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"

    claim(home)
    claim(home)

    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / ".gitignore").read_text() == "*\n"


def test_folder_with_other_content_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    before = tmp_path.stat().st_mode

    with pytest.raises(StackError, match="other content"):
        claim(tmp_path)

    assert tmp_path.stat().st_mode == before
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
