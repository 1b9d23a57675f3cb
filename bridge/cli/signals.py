"""
What SIGTERM means for commands that a person ends with Ctrl-C.

The service has its own way of stopping; it doesn't use this.
"""

from __future__ import annotations

import signal


__all__ = ["treat_sigterm_as_sigint"]


def treat_sigterm_as_sigint() -> None:
    """
    End at SIGTERM as at Ctrl-C: the terminal is put back in order, the code is 0.

    trio turns SIGINT into an exception also while a write to a full pipe blocks,
    where a signal that wakes a task would wait for the pipe. Where SIGINT is
    ignored (a shell's background job), SIGTERM keeps its own meaning.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
