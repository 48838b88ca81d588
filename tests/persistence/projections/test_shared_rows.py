"""A row belongs to one partition: replicas fold different partitions at the same time."""

import pytest
from sqlalchemy import Column, MetaData, SmallInteger, Table, Text

from antiphon.persistence.projection import ViewTable


def _table(*key: Column[str] | Column[int]) -> Table:
    return Table("calls_of_tenant", MetaData(), *key, Column("calls", SmallInteger))


def test_a_table_whose_rows_several_partitions_would_write_is_refused() -> None:
    with pytest.raises(ValueError, match="calls_of_tenant needs session_id or partition in its primary key"):
        ViewTable(_table(Column("tenant", Text, primary_key=True)))
    with pytest.raises(ValueError, match=r"which is \(\)"):
        ViewTable(_table(Column("session_id", Text)))


@pytest.mark.parametrize("name", ["session_id", "partition"])
def test_a_table_with_a_row_for_each_session_or_partition_is_accepted(name: str) -> None:
    key = Column[str]("tenant", Text, primary_key=True), Column[str](name, Text, primary_key=True)
    assert ViewTable(_table(*key)).key == ["tenant", name]
