"""Prometheus for the tests that `make test-prometheus` runs."""

import pytest
from tests.prometheus.programs import Programs, find


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Prometheus and promtool."""
    return find()
