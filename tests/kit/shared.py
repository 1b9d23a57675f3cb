"""Servers that all workers of a run share: each is started once, when a test asks.

A worker gets a copy of the server's object. Its processes stay with the controlling
process: what the copy wants to know of them or to do to them goes over the socket.
"""

from __future__ import annotations

import fcntl
import io
import pickle
import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from signal import Signals
from typing import Any, cast

from tests.kit.process import ChildProcess, ChildServer


_POLL_SECONDS = 0.05


class SharedServerError(Exception):
    """The controlling process couldn't do what a worker asked for."""


class Servers(ABC):
    """The servers of a run, as a process that runs tests sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def get(self, name: str) -> Any:
        """Give a server, started."""

    @contextmanager
    def locked(self, name: str, count: int = 1) -> Iterator[int]:
        """Have one of so many servers for the block, and no other worker has it.

        The lock ends with the process that holds it, however that ends.
        """
        while True:
            for number in range(count):
                with (self.folder / f"{name}-{number}.lock").open("a") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    yield number
                    return
            time.sleep(_POLL_SECONDS)


class SharedServers(Servers):
    """The servers of a run, in its controlling process."""

    def __init__(self, makers: Mapping[str, Callable[[], ChildServer]]) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="bridge-run-")))
        self._makers = makers
        self._lock = threading.Lock()
        self._locks = {name: threading.Lock() for name in makers}
        self._servers: dict[str, ChildServer] = {}
        self._failures: dict[str, SharedServerError] = {}
        self._processes: dict[int, ChildProcess] = {}
        self._listener: Listener | None = None

    def get(self, name: str) -> ChildServer:
        """Give a server, started; what failed once isn't tried again."""
        kind = name.partition("-")[0]
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name in self._failures:
                raise self._failures[name]
            if name not in self._servers:
                try:
                    server = self._makers[kind]()
                    server.__enter__()
                except Exception as error:
                    failure = SharedServerError(str(error))
                    self._failures[name] = failure
                    raise failure from error
                self._servers[name] = server
            return self._servers[name]

    def listen(self) -> Path:
        """Answer workers from now on, and give the folder that they need."""
        if self._listener is None:
            self._listener = Listener(str(self.folder / "socket"), "AF_UNIX")
            threading.Thread(
                target=self._accept, args=(self._listener,), daemon=True
            ).start()
        return self.folder

    def close(self) -> None:
        """End all servers."""
        if self._listener is not None:
            self._listener.close()
        for server in self._servers.values():
            server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(
                target=self._answer, args=(connection,), daemon=True
            ).start()

    def _answer(self, connection: Connection) -> None:
        with connection, suppress(EOFError, OSError):
            asked, *arguments = connection.recv()
            try:
                answer = getattr(self, f"_answer_{asked}")(*arguments)
            except Exception as error:  # noqa: BLE001 - the worker raises it
                connection.send_bytes(_pickled((False, str(error)), {}))
            else:
                connection.send_bytes(answer)

    def _answer_server(self, name: str) -> bytes:
        return _pickled((True, self.get(name)), self._processes, self.folder)

    def _answer_process(self, key: int, name: str, arguments: tuple[Any, ...]) -> bytes:
        found = getattr(self._processes[key], name)
        return _pickled((True, found(*arguments) if callable(found) else found), {})


class _WorkersServers(Servers):
    """The servers of a run, in a worker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._known: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Give a server's copy."""
        if name not in self._known:
            self._known[name] = _ask(self.folder, "server", name)
        return self._known[name]


def servers_of(folder: str) -> Servers:
    """Give a worker the run's servers."""
    return _WorkersServers(Path(folder))


def _ask(folder: Path, *question: Any) -> Any:
    with Client(str(folder / "socket"), "AF_UNIX") as connection:
        connection.send(question)
        is_well, answer = pickle.loads(connection.recv_bytes())  # noqa: S301 - ours
    if not is_well:
        raise SharedServerError(answer)
    return answer


class _RemoteProcess(ChildProcess):
    """A process of the controlling process', in a worker."""

    def __init__(
        self,
        folder: Path,
        key: int,
        name: str,
        log: Path,
        ready: Callable[[ChildProcess], bool] | None,
    ) -> None:
        super().__init__(name, (), log=log, cwd=log.parent, ready=ready)
        self._folder = folder
        self._key = key

    def _call(self, name: str, *arguments: Any) -> Any:
        return _ask(self._folder, "process", self._key, name, arguments)

    @property
    def pid(self) -> int:
        return cast("int", self._call("pid"))

    @property
    def running(self) -> bool:
        return cast("bool", self._call("running"))

    @property
    def exit_code(self) -> int | None:
        return cast("int | None", self._call("exit_code"))

    def output(self) -> str:
        return cast("str", self._call("output"))

    def spawn(self) -> None:
        self._call("spawn")

    def signal(self, number: Signals) -> None:
        self._call("signal", number)

    def kill(self) -> None:
        self._call("kill")


def _pickled(
    answer: object, processes: dict[int, ChildProcess], folder: Path = Path()
) -> bytes:
    """Pickle an answer, and note the processes whose copies go with it."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, found: Any) -> Any:
            if not isinstance(found, ChildProcess):
                return NotImplemented
            processes[id(found)] = found
            about = (folder, id(found), found.name, found.log, found.ready_when)
            return _RemoteProcess, about

    buffer = io.BytesIO()
    Pickler(buffer).dump(answer)
    return buffer.getvalue()
