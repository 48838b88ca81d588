"""The settings of persistence: a wrong one is named."""

import pytest

from antiphon.chassis.settings import load
from antiphon.persistence.settings import MigrateSettings

VARIABLE = "ANTIPHON_MIGRATE_STATEMENT_TIMEOUT_SECONDS"


@pytest.mark.parametrize("seconds", ["0", "0.0004", "inf", "nan", "1e7"])
def test_the_timeout_of_a_migration_is_one_that_postgres_takes(
    seconds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", "postgresql://antiphon@127.0.0.1/antiphon")
    monkeypatch.setenv(VARIABLE, seconds)

    with pytest.raises(SystemExit) as ended:
        load(MigrateSettings)

    assert ended.value.code == 2
    assert f"{VARIABLE} is {seconds!r}: input should be" in capsys.readouterr().err
