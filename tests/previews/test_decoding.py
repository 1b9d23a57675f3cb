"""Whatever spelling a browser shows is understood, and no other but one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.previews.decoding import UndecodableError, decode
from tests.previews.images import KINDS, SPELLINGS


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(data=st.binary(), kind=st.sampled_from(list(KINDS)))
def test_each_spelling_gives_the_bytes(spelling: str, data: bytes, kind: str) -> None:
    """The bytes come back, whatever they are."""
    decoded, claimed = decode(SPELLINGS[spelling](data, kind))
    assert decoded == data
    if claimed is not None:
        assert claimed == kind


@pytest.mark.parametrize(
    ("text", "data"),
    [
        # From the Web Platform Tests, fetch/data-urls/resources/base64.json.
        ("", b""),
        ("abcd", b"i\xb7\x1d"),
        (" abcd", b"i\xb7\x1d"),
        ("abcd ", b"i\xb7\x1d"),
        (" abcd===", None),
        ("abcd=", None),
        ("abcd==", None),
        ("abcd====", None),
        ("ab", b"i"),
        ("abc", b"i\xb7"),
        ("abcde", None),
        ("ab=", None),
        ("ab==", b"i"),
        ("ab===", None),
        ("abc=", b"i\xb7"),
        ("a", None),
        ("=", None),
        ("==", None),
        ("===", None),
        ("====", None),
        ("a=", None),
        ("a==", None),
        ("a===", None),
        ("a=b", None),
        ("ab=c", None),
        ("=abc", None),
        ("ab\tcd", b"i\xb7\x1d"),
        ("ab\ncd", b"i\xb7\x1d"),
        ("ab\fcd", b"i\xb7\x1d"),
        ("ab\rcd", b"i\xb7\x1d"),
        ("ab cd", b"i\xb7\x1d"),
        ("ab\u00a0cd", None),
        ("ab\u000bcd", None),
        ("ab\t\n\f\r =\t\n\f\r =\t\n\f\r ", b"i"),
        ("/", None),
        ("//", b"\xff"),
        ("///", b"\xff\xff"),
        ("////", b"\xff\xff\xff"),
        ("~", None),
        ("~~", None),
        ("A", None),
        ("AA", b"\x00"),
        # Bits that no byte needs are given up.
        ("AB", b"\x00"),
        ("AAB", b"\x00\x00"),
        # The one exception: what some encoders write.
        ("__-_", b"\xff\xff\xbf"),
    ],
)
@pytest.mark.parametrize("head", ["", "data:;base64,"])
def test_base64_is_read_as_browsers_read_it(
    head: str, text: str, data: bytes | None
) -> None:
    """Alone and in a data URI; what is wrong is refused and not guessed at."""
    if data is None:
        with pytest.raises(UndecodableError):
            decode(head + text)
    else:
        assert decode(head + text) == (data, None)


@pytest.mark.parametrize(
    ("text", "data", "claimed"),
    [
        ("data:,a%20b", b"a b", None),
        ("data:image/png,%89PNG", b"\x89PNG", "image/png"),
        ("data:text/plain,x", b"x", None),
        ("data:image/svg+xml,%3Csvg%3E", b"<svg>", "image/svg+xml"),
        # A parameter of that name asks for nothing, nor does one before others.
        ("data:image/png;base64=1,YQ", b"YQ", "image/png"),
        ("data:image/png;base64;x=1,YQ", b"YQ", "image/png"),
        ("data:image/png;x=base64,YQ", b"YQ", "image/png"),
        ("data:base64,YQ", b"YQ", None),
        ("data:a b/c,x", b"x", None),
        ("data:,100%", b"100%", None),
        ("data:,a#b", b"a", None),
        ("data:,\N{SNOWMAN}", "\N{SNOWMAN}".encode(), None),
        ("\x00 data:,x \x1f", b"x", None),
    ],
)
def test_heads_are_read_as_browsers_read_them(
    text: str, data: bytes, claimed: str | None
) -> None:
    """Type, parameters and the word base64, by the Fetch Standard."""
    assert decode(text) == (data, claimed)


@pytest.mark.parametrize(
    "text",
    [
        "https://storage.example/previews/1.jpg",
        "data:",
        "data:image/png;base64",
        "data:" + "x" * 5000 + ",",
        "blob:https://a.example/1",
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "\N{SNOWMAN}",
        "d",
    ],
)
def test_what_is_neither_is_refused(text: str) -> None:
    """An address is not fetched, and markup isn't taken for data."""
    with pytest.raises(UndecodableError):
        decode(text)


@given(st.text() | st.text().map(lambda text: f"data:{text}"))
def test_no_text_breaks_the_decoder(text: str) -> None:
    """Bytes and a type in small letters, or the one error."""
    with suppress(UndecodableError):
        data, claimed = decode(text)
        assert isinstance(data, bytes)
        assert claimed is None or claimed == claimed.lower()
