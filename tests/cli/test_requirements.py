import pytest

from antiphon.cli import requirements
from antiphon.cli.errors import StackError


def test_everything_is_installed_here() -> None:
    requirements.require_stack("up")
    requirements.require_recogniser()
    requirements.require_parquet()


def test_missing_pyarrow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "PARQUET", "no_such_module")

    with pytest.raises(StackError, match=r"needs pyarrow: pip install pyarrow"):
        requirements.require_parquet()


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "STACK", ("json", "no_such_module"))

    with pytest.raises(StackError, match=r"antiphon up needs .*: make up in a checkout installs it"):
        requirements.require_stack("up")


def test_missing_recogniser_names_the_pythons_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "RECOGNISER", "no_such_module")

    with pytest.raises(StackError, match=r"Use Python 3\.11 or 3\.13"):
        requirements.require_recogniser()
