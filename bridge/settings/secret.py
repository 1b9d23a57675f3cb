"""
Secrets, and the files with secrets and certificates, replaced while the bridge runs.

A `Secret` appears in no log, `repr`, error or pickle. Files are read on the event loop,
so that opening one must not block: a FIFO blocks until a program writes to it.
"""

from __future__ import annotations

import errno
import hmac
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from bridge.errors import ConfigError


__all__ = ["Secret", "Signature", "require_regular", "signature"]

# Kubernetes caps a whole Secret at 1 MiB, and tokens and passwords have some
# hundred bytes; the cap keeps a device or a wrong file from filling the memory.
_LARGEST_FILE_BYTES = 65_536

# Device, inode, time and size.
Signature = tuple[int, int, int, int]


def signature(path: str | Path) -> Signature | None:
    """
    Return a file's signature, which differs once the file is replaced.

    It follows links: Kubernetes replaces only a link to a mounted Secret. It takes some
    microseconds and doesn't block.

    Returns:
        The signature, or None if there is no such file.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path adds nothing here
    except OSError:
        return None
    return _signature_of(status)


def _signature_of(status: os.stat_result) -> Signature:
    """Return the signature of a file that is open."""
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, without blocking."""
    # Without O_NONBLOCK, opening a FIFO waits for its writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "it is not a regular file")


def require_regular(path: str | Path) -> None:
    """
    Check a file that a library opens by its path, with an open that may block.

    Raises:
        OSError: It can't be opened, or is a FIFO, a device, a socket or a directory.
    """
    _open_regular(path).close()


class Secret:
    """
    Text that only `reveal()` returns.

    When a secret's file changes, the next `reveal()` reads it again. If the file is
    missing, empty or invalid at that moment, the last good value stays in use and a
    warning is logged: rotations are seldom atomic.
    """

    __slots__ = ("_accepts", "_file", "_hide", "_signature", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._file: Path | None = None
        self._signature: Signature | None = None
        self._accepts: Callable[[str], bool] = bool
        self._hide: Callable[[str], None] = lambda _: None

    @classmethod
    def from_file(cls, file: Path, *, accepts: Callable[[str], bool] = bool) -> Secret:
        """
        Read a secret from a file, and again whenever the file changes.

        One line end at the end of the file is not part of the value: editors
        and `echo` write it.

        Args:
            file: The file, UTF-8.
            accepts: Whether a value may replace the previous one.

        Returns:
            The secret, read once.

        Raises:
            ConfigError: The file can't be read, is not a regular file, empty, too
                large or not UTF-8. The message names neither the path nor the
                value, because a token put where its path belongs must not leak.
        """
        value, found = _read(file)
        secret = cls(value)
        secret._file = file
        secret._signature = found
        secret._accepts = accepts
        return secret

    @property
    def file(self) -> Path | None:
        """The file that the secret is read from, or None."""
        return self._file

    def reveal(self) -> str:
        """
        Return the text, read again if its file has changed.

        It uses the file system for some microseconds and doesn't block.
        """
        if self._file is not None:
            self._follow(self._file)
        return self._value

    def hide_with(self, hide: Callable[[str], None]) -> None:
        """
        Pass each value to a redactor before `reveal` returns it.

        Args:
            hide: Called with the present value, and with each later one.
        """
        self._hide = hide
        hide(self.reveal())

    def _follow(self, file: Path) -> None:
        found = signature(file)
        if found == self._signature:
            return
        self._signature = found
        try:
            value, self._signature = _read(file)
        except ConfigError as error:
            _log("secret.unreadable", file, str(error))
            return
        if not self._accepts(value):
            _log("secret.invalid", file, "has characters that it must not have")
            return
        self._hide(value)
        self._value = value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, format_spec: str) -> str:
        return format("***", format_spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # Constant time: a response's delay must not show how much was right.
        return hmac.compare_digest(
            self.reveal().encode(errors="surrogateescape"),
            other.reveal().encode(errors="surrogateescape"),
        )

    # The value may change with its file, so it can't be a key.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


def _read(file: Path) -> tuple[str, Signature]:
    try:
        with _open_regular(file) as opened:
            found = _signature_of(os.fstat(opened.fileno()))
            content = opened.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        # The original names the path, which may be a token put there by mistake.
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"can't be read: {reason}") from None
    except ValueError:
        raise ConfigError("can't be read: it has no valid name") from None
    if len(content) > _LARGEST_FILE_BYTES:
        raise ConfigError(f"is larger than {_LARGEST_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # The original carries the content.
        raise ConfigError("is not UTF-8 text") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value.strip():
        raise ConfigError("is empty")
    return value, found


def _log(event: str, file: Path, reason: str) -> None:
    # Imported when needed: the command line's help shall not wait for it.
    import structlog  # noqa: PLC0415

    structlog.get_logger("bridge.settings").warning(
        event,
        file=str(file),
        reason=reason,
        consequence="the previous value stays in use",
    )
