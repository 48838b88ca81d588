import logging

import pytest

from antiphon.chassis.library_log import EVENT, get_logger


def test_fields_are_in_the_message_and_on_the_record(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("antiphon.test").warning("disk.full", extra={"path": "/tmp/x", "percent": 100})

    (record,) = caplog.records
    assert record.getMessage() == "disk.full path='/tmp/x' percent=100"
    assert (record.__dict__[EVENT], record.__dict__["percent"]) == ("disk.full", 100)


def test_percent_signs_are_not_formatted(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("antiphon.test").warning("disk.full", extra={"error": "100 %s"})

    assert caplog.messages == ["disk.full error='100 %s'"]


def test_a_disabled_level_costs_no_formatting() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise AssertionError

    logging.getLogger("antiphon.quiet").setLevel(logging.ERROR)
    get_logger("antiphon.quiet").info("x", extra={"value": Unprintable()})


def test_a_sentence_with_arguments_has_no_event(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("antiphon.test").warning("version %s lacks %s", "1.8.0", "a name")

    (record,) = caplog.records
    assert record.getMessage() == "version 1.8.0 lacks a name"
    assert EVENT not in record.__dict__
