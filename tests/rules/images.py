"""Real images of every kind, and the texts that a preview may have for one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from io import BytesIO
from types import MappingProxyType

from PIL import Image


__all__ = ["KINDS", "SPELLINGS", "data_uri", "image"]

# Pillow's name by content type.
KINDS = MappingProxyType(
    {
        "image/jpeg": "JPEG",
        "image/png": "PNG",
        "image/webp": "WEBP",
        "image/gif": "GIF",
        "image/avif": "AVIF",
    }
)


@cache
def image(content_type: str, side: int = 16, **options: bool) -> bytes:
    """Paint a picture."""
    file = BytesIO()
    painted = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    painted.save(file, KINDS[content_type], **options)
    return file.getvalue()


def data_uri(data: bytes, content_type: str = "image/jpeg") -> str:
    """Write bytes as upstream does."""
    return f"data:{content_type};base64,{_plain(data)}"


def _plain(data: bytes) -> str:
    return base64.b64encode(data).decode()


# What an event may hold for the same image.
SPELLINGS: MappingProxyType[str, Callable[[bytes, str], str]] = MappingProxyType(
    {
        "data URI": data_uri,
        "upper case": lambda data, kind: f"DATA:{kind.upper()};BASE64,{_plain(data)}",
        "parameters": lambda data, kind: (
            f"data:{kind};charset=utf-8;name=a.b;base64,{_plain(data)}"
        ),
        "spaces before base64": lambda data, kind: (
            f" data: {kind} ;  base64,{_plain(data)}\n"
        ),
        "no type": lambda data, _: f"data:;base64,{_plain(data)}",
        "any type": lambda data, _: (
            f"data:application/octet-stream;base64,{_plain(data)}"
        ),
        "line ends": lambda data, kind: (
            f"data:{kind};base64,{base64.encodebytes(data).decode()}"
        ),
        "without padding": lambda data, kind: data_uri(data, kind).rstrip("="),
        "URL-safe": lambda data, kind: (
            f"data:{kind};base64,{base64.urlsafe_b64encode(data).decode()}"
        ),
        "bare base64": lambda data, _: _plain(data),
        "bare base64 in lines": lambda data, _: (
            base64.encodebytes(data).decode().replace("\n", "\r\n")
        ),
        "bare URL-safe base64": lambda data, _: (
            base64.urlsafe_b64encode(data).decode().rstrip("=")
        ),
    }
)
