"""`make chaos` itself, with a few kills: it runs to its end and finds nothing."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import main


@pytest.mark.long
@pytest.mark.connected
@pytest.mark.timeout(180)
def test_a_few_kills_find_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Six kills in five of the ways: all that was committed is there."""
    code = main(["kills", "--kills", "6", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.startswith("seed 1, idempotent, 300 events/s\n")
    assert said.endswith("is on the topic, in order\n")


def test_a_wrong_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown fault is refused with the names of those that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["brokers", "--only", "nonsense"])
    assert ended.value.code == 2
    assert "in-turn" in capsys.readouterr().err
