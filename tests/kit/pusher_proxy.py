"""A proxy in front of one Pusher server that can drop and add messages."""

from __future__ import annotations

from tests.kit.proxy import Chunks, FaultProxy, Frames, View


_END_OF_HEAD = b"\r\n\r\n"

# RFC 6455 section 5.2: control frames have the opcode's highest bit, a length above
# 125 is in two bytes, above 65,535 in eight; what a server sends has no mask.
_CONTROL, _SHORT_LENGTH = 0x08, 0x7F
_LONGER = {126: 2, 127: 8}
_LONGEST_SHORT = 125

_ACKNOWLEDGEMENT = b'"pusher_internal:subscription_succeeded"'
_PONG = b'"pusher:pong"'


class PusherProxy(FaultProxy):
    """The proxy in front of one Pusher server."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.acknowledgements = 0
        self._inserted: list[str] = []
        self._views: list[_Messages] = []

    def view(self) -> View:
        """Make the view of one connection's messages."""
        view = _Messages(self)
        self._views.append(view)
        return view

    def drop(self) -> None:
        """Let no message but pongs reach the client on the connections of now."""
        for view in self._views:
            view.drops = True

    def insert(self, text: str) -> None:
        """Add a message of the server's behind the next one that comes."""
        self._inserted.append(text)

    def take_inserted(self) -> list[str]:
        """Take what shall be added now."""
        inserted, self._inserted = self._inserted, []
        return inserted


class _Messages(View):
    """The messages on one connection."""

    def __init__(self, proxy: PusherProxy) -> None:
        self._proxy = proxy
        self.drops = False

    async def back(self, chunks: Chunks) -> Chunks:
        frames = Frames(_head_length, _frame_length)
        async for chunk in chunks:
            for piece in frames.take(chunk):
                self._proxy.acknowledgements += _ACKNOWLEDGEMENT in piece
                if not self.drops or piece[0] & _CONTROL or _PONG in piece:
                    yield piece
                    for text in self._proxy.take_inserted():
                        yield _text_frame(text)


def _text_frame(text: str) -> bytes:
    content = text.encode()
    assert _LONGEST_SHORT < len(content) < 1 << 16
    return b"\x81\x7e" + len(content).to_bytes(2, "big") + content


def _head_length(gathered: bytearray) -> int | None:
    place = gathered.find(_END_OF_HEAD)
    return None if place < 0 else place + len(_END_OF_HEAD)


def _frame_length(gathered: bytearray) -> int | None:
    if len(gathered) < 2:
        return None
    length = gathered[1] & _SHORT_LENGTH
    longer = _LONGER.get(length, 0)
    begin = 2 + longer
    if len(gathered) < begin:
        return None
    return begin + (int.from_bytes(gathered[2:begin], "big") if longer else length)
