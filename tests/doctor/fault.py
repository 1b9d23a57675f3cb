"""What a fault is: how it is put in, and how it is to be told."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.doctor import Outcome
from bridge.errors import ExitCode
from tests.doctor.planting import Make


__all__ = ["Fault", "kafka", "misplaced", "refused_by_dryapi", "warning"]


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes:
        make: Puts it in and gives the variables that lead to it.
        step: The step that is to name it.
        words: What its detail or remedy has to contain, each.
        outcome: How that step is to come out.
        exit_code: What the whole is to exit with.
    """

    make: Make
    step: str
    words: tuple[str, ...]
    outcome: Outcome = Outcome.FAILURE
    exit_code: ExitCode = ExitCode.FAILED


def kafka(make: Make, step: str, *words: str) -> Fault:
    """Give a fault of Kafka's: the bridge ends with 4."""
    return Fault(make, step, words, exit_code=ExitCode.REFUSED_BY_KAFKA)


def warning(make: Make, step: str, *words: str) -> Fault:
    """Give a fault with which the bridge works."""
    return Fault(make, step, words, Outcome.WARNING, ExitCode.CLEAN)


def refused_by_dryapi(make: Make, step: str, *words: str) -> Fault:
    """Give a fault for which dryAPI sends the bridge away: it ends with 3."""
    return Fault(make, step, words, exit_code=ExitCode.REFUSED_BY_DRYAPI)


def misplaced(make: Make, step: str, *words: str) -> Fault:
    """Give a fault of this machine's: the bridge ends with 2."""
    return Fault(make, step, words, exit_code=ExitCode.USAGE)
