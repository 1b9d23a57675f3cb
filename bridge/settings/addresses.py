"""
What a `host:port` is, in one place.

It only takes text apart; whether anything answers there is for others to find out.
"""

from __future__ import annotations


__all__ = ["split_address"]

# A port is 16 bits wide (RFC 9293, section 3.1); 0 asks the system for a free one.
_LARGEST_PORT = 65_535


def split_address(text: str) -> tuple[str, int]:
    """
    Take `host:port` apart; an IPv6 host stands in brackets.

    Args:
        text: For instance `127.0.0.1:8080` or `[::1]:8080`.

    Returns:
        The host without brackets, and the port, 0 to 65535.

    Raises:
        ValueError: It is no such text; the message doesn't repeat it.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if (
        not colon
        or not host
        or (":" in host) != bracketed
        or any(character.isspace() or character in "/@,[]" for character in host)
    ):
        raise ValueError("not an address")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError("not a number after the colon")
    if int(port) > _LARGEST_PORT:
        raise ValueError("port out of range")
    return host, int(port)
