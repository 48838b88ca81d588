"""The reasons of a part of the process name what is not known from the check that shows them."""

import pytest

from antiphon.persistence.errors import NotReady
from antiphon.persistence.readiness import ReadinessCheck


async def test_a_reason_does_not_repeat_the_name_of_its_check() -> None:
    readiness = ReadinessCheck(of="projection hourly")
    readiness.unhealthy("projection hourly", "cannot read the log")
    readiness.unhealthy("projection hourly partition 15", "stalled at event e1")
    readiness.unhealthy("another", "waits")

    with pytest.raises(NotReady) as raised:
        await readiness.check()
    assert str(raised.value) == "another waits; cannot read the log; partition 15 stalled at event e1"
