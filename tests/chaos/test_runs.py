"""The commands themselves, for a short time: they run to their end and find nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import main


@pytest.mark.connected
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("command", "least"),
    [
        ("kills --kills 6", {"events emitted": 2_000, "events committed": 1_000}),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                (
                    "kills --kills 6 --delivery transactional",
                    {"events emitted": 2_000, "events committed": 1_000},
                ),
                (
                    "soak --for 60s",
                    {"events emitted": 2_000, "events on the topic": 1_000},
                ),
                ("restarts --times 3", {"events emitted": 500, "connects": 4}),
                ("healing --for 60s", {}),
            )
        ),
    ],
)
def test_a_wrong_option_is_refused_with_what_it_may_be(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is that of wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err
