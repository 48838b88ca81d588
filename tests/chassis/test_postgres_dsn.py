"""A DSN that cannot work is refused at start, and no error shows any part of it."""

import pytest

from antiphon.chassis.postgres_dsn import check_dsn
from antiphon.chassis.settings import PostgresSettings, load


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://",
        "postgres://127.0.0.1/x",
        "postgresql://u:p%23%2F%40@127.0.0.1:5432/x",
        "postgresql:///x?host=/var/run/postgresql",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/x",
        "postgresql://u:p@a:1,b:2,c/x?target_session_attrs=read-write&application_name=",
        "postgresql://u@[::1]:5432/x",
        "postgresql://u@[::1]/x?sslmode=verify-full",
        f"postgresql://u@h/x?sslrootcert={__file__}",
    ],
)
def test_a_dsn_that_works_is_accepted(dsn: str) -> None:
    assert check_dsn(dsn) == dsn


@pytest.mark.parametrize(
    ("dsn", "advice"),
    [
        ("", "must start with postgresql://"),
        ("host=127.0.0.1 port=1 password=S3CRETpw", "must start with postgresql://"),
        ("mysql://u:S3CRETpw@h/x", "must start with postgresql://"),
        ("postgresql://u:S3CRET#rest@127.0.0.1:1/x", "# as %23"),
        ("postgresql://u:S3CRETpw@127.0.0.1:1/x#", "# as %23"),
        ("postgresql://u:S3CR/ETpw@127.0.0.1:1/x", "/ as %2F"),
        ("postgresql://u:1/S3CRET@127.0.0.1:1/x", "/ as %2F"),
        ("postgresql://u:S3CR?ETpw@127.0.0.1:1/x", "? as %3F"),
        ("postgresql://u:S3CR@ETpw@127.0.0.1:1/x", "@ as %40"),
        ("postgresql://u:S3CRETpw@h:99999/x", "host:port"),
        ("postgresql://u:S3CRETpw@h:abc/x", "host:port"),
        ("postgresql://u:S3CRETpw@[::1/x", "host:port"),
        ("postgresql://u:S3CRETpw@h/x?wrong", "parameter=value"),
        ("postgresql://u:S3CRETpw@h/x?sslmode=wrong", "sslmode: allowed are disable"),
        ("postgresql://u:S3CRETpw@h/x?target_session_attrs=foo", "allowed are any"),
        ("postgresql://u:S3CRETpw@h/x?sslmode=verify-full&sslrootcert=/none", "sslrootcert"),
    ],
)
def test_a_wrong_dsn_is_refused_without_showing_it(
    dsn: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", dsn)

    with pytest.raises(SystemExit) as ended:
        load(PostgresSettings)

    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert printed.startswith("ANTIPHON_POSTGRES_DSN is (hidden): ")
    assert advice in printed
    assert "S3C" not in printed
    assert "ET" not in printed


def test_the_dsn_is_not_in_the_repr_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", "postgresql://u:S3CRET@h/x")

    assert "S3CRET" not in repr(load(PostgresSettings))
