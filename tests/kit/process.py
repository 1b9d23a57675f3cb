"""Child processes: started in their own session, awaited, ended, never left over.

A child has a session of its own, so that Ctrl-C at the terminal reaches
its starter and not the child. That alone would leave it running when the
starter is killed; therefore each child has a watchdog, a shell in yet another
session that waits on a pipe whose other end only the starter holds. The pipe's
end says that the starter is gone, however it went, and the watchdog kills the
child's process group and removes its scratch folder. It works on Linux and
macOS alike and, unlike a parent-death signal, does not depend on which thread
started the child.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self


# The child's first program: it waits for a line before it becomes the real one,
# so that the child runs nothing until its watchdog stands.
_GATE = 'read -r go && exec "$@" </dev/null'

# A line means that the child has ended and its process id may belong to another
# by now. Half a second lets a killed JVM's last writes end before the removal.
_WATCHDOG = """\
read -r done && exit 0
kill -s KILL -- "-$1"
if [ -n "$2" ]; then sleep 0.5; rm -rf -- "$2"; fi
"""

# Much shorter than the fastest start (soketi: 0.7 s), much longer than a look.
_POLL_SECONDS = 0.03

# SIGKILL needs no cooperation; only a process stuck in the kernel takes longer.
_KILL_DEADLINE_SECONDS = 5.0

_TAIL_LINES = 25

# Below the ports that Linux (from 32768) and macOS (from 49152) hand out for
# outgoing connections. A server that is down for a moment would otherwise lose
# its port to a client's connection, even to one that dials this very port.
_FIRST_PORT = 20_000
_LAST_PORT = 32_000


class ProcessError(Exception):
    """A child didn't do what it was started for; the message ends in its log's tail."""

    def __init__(
        self, name: str, reason: str, exit_code: int | None, tail: str
    ) -> None:
        super().__init__(f"{name} {reason}\n{tail}".rstrip())
        self.name = name
        self.exit_code = exit_code
        self.tail = tail


class PortTakenError(Exception):
    """A port that a server needs belongs to another program now."""


def _never() -> None:
    """Stand where a caller has no way to call the wait off."""


def environment_without(*prefixes: str) -> dict[str, str]:
    """Give this process' variables but those that would change a child's settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}


class ChildProcess:
    """One program that is started, and may be stopped and started again.

    Its methods may be called from any thread, by one thread at a time.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        scratch: Path | None = None,
        ports: Sequence[int] = (),
        ready: Callable[[ChildProcess], bool] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = [str(part) for part in argv]
        self._cwd = cwd
        self._env = env
        self._scratch = scratch
        self._ports = ports
        self.ready_when = ready
        self._log_start = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running child's process id, which is its process group's too."""
        if self._child is None or not self.running:
            raise self.error("is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child has been started and has not ended."""
        return self._child is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """The last child's exit code, negative for a signal; None if it has none."""
        if self._child is None:
            return None
        code = self._child.poll()
        if code is not None:
            self._dismiss_watchdog()
        return code

    @property
    def ready(self) -> bool:
        """Whether the running child can be used."""
        if not self.running:
            raise self.error("ended before it was ready")
        return self.ready_when is not None and self.ready_when(self)

    def output(self) -> str:
        """What the child has written since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def spawn(self) -> None:
        """Start the child and its watchdog, without waiting for readiness."""
        if self.running:
            raise self.error("is running already")
        # Some servers would share a port with another program without an error.
        for port in self._ports:
            check_port_free(port)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "gate", *self._argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )
        doomed = [str(self._child.pid), str(self._scratch or "")]
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", *doomed],
            stdin=subprocess.PIPE,
            # Left open, a pipe of the test run's output would seem unfinished.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _say_line(self._child.stdin)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child if it is running."""
        if self._child is not None and self.running:
            self._child.send_signal(number)

    def kill(self) -> None:
        """Kill the child and all that it started, and wait for its end."""
        if self._child is not None and self.running:
            # Not reaped yet, so the group's number is still the child's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait(_KILL_DEADLINE_SECONDS)
        self._dismiss_watchdog()

    def _dismiss_watchdog(self) -> None:
        if self._watchdog is not None:
            _say_line(self._watchdog.stdin)
            self._watchdog.wait(_KILL_DEADLINE_SECONDS)
            self._watchdog = None

    def error(self, reason: str) -> ProcessError:
        """Make the error that says what happened to this child."""
        tail = "\n".join(self.output().strip().splitlines()[-_TAIL_LINES:])
        code = self._child.poll() if self._child is not None else None
        return ProcessError(self.name, reason, code, tail)


def _say_line(pipe: IO[bytes] | None) -> None:
    """Write one line into a waiting shell and close the pipe."""
    assert pipe is not None
    # The shell may have been killed already: then no process reads it.
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(b"\n")


@contextlib.contextmanager
def _all_or_none(processes: Sequence[ChildProcess]) -> Iterator[None]:
    """Start these children, and kill all of them if the block fails."""
    try:
        for process in processes:
            process.spawn()
        yield
    except BaseException:  # an interrupt or a cancellation leaves nothing either
        for process in processes:
            process.kill()
        raise


def start_all(
    processes: Sequence[ChildProcess],
    *,
    deadline_seconds: float,
    checkpoint: Callable[[], None] = _never,
) -> None:
    """Start servers that need each other, and wait until all are ready."""
    with _all_or_none(processes):
        waiting = list(processes)
        deadline = time.monotonic() + deadline_seconds
        while waiting := [process for process in waiting if not process.ready]:
            if time.monotonic() > deadline:
                raise waiting[0].error(f"was not ready within {deadline_seconds:g} s")
            checkpoint()
            time.sleep(_POLL_SECONDS)


def run_all(
    processes: Sequence[ChildProcess],
    *,
    deadline_seconds: float,
    checkpoint: Callable[[], None] = _never,
) -> None:
    """Run programs side by side until all have ended well."""
    with _all_or_none(processes):
        waiting = list(processes)
        deadline = time.monotonic() + deadline_seconds
        while waiting := [process for process in waiting if process.running]:
            if time.monotonic() > deadline:
                raise waiting[0].error(f"did not end within {deadline_seconds:g} s")
            checkpoint()
            time.sleep(_POLL_SECONDS)
        for process in processes:
            if process.exit_code != 0:
                raise process.error(f"failed with exit code {process.exit_code}")


def stop_all(processes: Sequence[ChildProcess], *, grace_seconds: float) -> None:
    """Ask servers to end, paused ones too, and kill those that don't."""
    for process in processes:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    deadline = time.monotonic() + grace_seconds
    while any(process.running for process in processes):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    for process in processes:
        process.kill()


class ChildServer(ABC):
    """A server of one child or several; entering it starts it, leaving it ends it.

    In between it may be stopped, killed, paused and started again, as a whole or one
    single child, by its number from 1: its ports stay.
    """

    # Below pytest's 60 s, so that the error with the log's tail comes first.
    _start_deadline_seconds = 45.0
    _stop_grace_seconds = 5.0
    _processes: Sequence[ChildProcess]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The first child's process id."""
        return self._processes[0].pid

    @property
    def running(self) -> bool:
        """Whether all children run (paused ones too)."""
        return all(process.running for process in self._processes)

    def start(
        self, node: int | None = None, *, checkpoint: Callable[[], None] = _never
    ) -> None:
        """Start all children that don't run, or one, and wait until they serve."""
        start_all(
            [one for one in self._chosen(node) if not one.running],
            deadline_seconds=self._start_deadline_seconds,
            checkpoint=checkpoint,
        )

    def stop(self, node: int | None = None) -> None:
        """End all children, or one, with SIGTERM, and with SIGKILL after a grace."""
        stop_all(self._chosen(node), grace_seconds=self._stop_grace_seconds)

    def kill(self, node: int | None = None) -> None:
        """Kill all children, or one: connections break without a word."""
        for process in self._chosen(node):
            process.kill()

    def pause(self, node: int | None = None) -> None:
        """Let all children, or one, stand still with their connections open."""
        for process in self._chosen(node):
            process.signal(signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """Let paused children go on; others don't notice."""
        for process in self._chosen(node):
            process.signal(signal.SIGCONT)

    @abstractmethod
    def close(self) -> None:
        """End the server, and remove what it left."""

    def _chosen(self, number: int | None) -> Sequence[ChildProcess]:
        return self._processes if number is None else (self._processes[number - 1],)


def check_port_free(port: int) -> None:
    """Make sure that nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        # Connections in TIME_WAIT from the server's last run don't count; a
        # listening socket still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTakenError(f"port {port} on 127.0.0.1: {error}") from error


def free_ports(count: int) -> list[int]:
    """Find different ports of 127.0.0.1 on which nothing listens."""
    free: list[int] = []
    candidates = range(_FIRST_PORT, _LAST_PORT)
    for port in random.sample(candidates, len(candidates)):
        if len(free) == count:
            return free
        with contextlib.suppress(PortTakenError):
            check_port_free(port)
            free.append(port)
    raise PortTakenError(f"no {count} free ports in {candidates}")
