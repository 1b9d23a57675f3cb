"""What aiokafka's sender leaves in the log when it ends."""

from __future__ import annotations

import logging

import pytest

import bridge.kafka.producer.sender_tasks  # noqa: F401 - its import changes the logger


def _fail() -> None:
    raise ValueError("an answer of 120%")


def test_an_unknown_answer_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """What ended a sender is told without the way through aiokafka's code."""
    logger = logging.getLogger("aiokafka.producer.sender")
    # A command that ran in this process before may have silenced all of aiokafka.
    caplog.set_level(logging.ERROR, logger=logger.name)
    try:
        _fail()
    except ValueError:
        logger.exception("Unexpected error in %s routine", "sender")
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == (
        "Unexpected error in sender routine: ValueError('an answer of 120%')"
    )
