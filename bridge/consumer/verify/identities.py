"""
Which `ce_id`s were seen, in a bit each.

A `ce_id` is a process's random name and that process's counter. So millions of
them are a few pages of bits, and one that comes again is known for certain.
"""

from __future__ import annotations


__all__ = ["Identities"]

# 8,192 ids a page: a process that wrote one record costs 1 KiB, ten million
# records of one process 1.2 MiB.
_PAGE_BITS = 13
_PAGE_BYTES = 1 << (_PAGE_BITS - 3)
_PAGE_MASK = (1 << _PAGE_BITS) - 1

# 64 MiB: 500 million records of one process, or 65,536 starts.
_MAX_PAGES = 65_536

# Nobody counts further; a longer number is no counter.
_MAX_DIGITS = 18


class Identities:
    """
    Remembers ids, a bounded number of them.

    Args:
        max_pages: How much is kept, 1 KiB each. The oldest page goes first.

    Attributes:
        is_whole: Whether every id since the beginning is remembered.
    """

    def __init__(self, max_pages: int = _MAX_PAGES) -> None:
        self._max_pages = max_pages
        self._pages: dict[tuple[bytes, int], bytearray] = {}
        self.is_whole = True

    def add(self, ce_id: bytes) -> bool | None:
        """
        Remember an id.

        Returns:
            Whether it is new; None for one that has another form than the
            bridge's, of which nothing is known.
        """
        name, _, digits = ce_id.rpartition(b"-")
        if not name or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        number = int(digits)
        key = (name, number >> _PAGE_BITS)
        page = self._pages.get(key)
        if page is None:
            page = self._new_page(key)
        number &= _PAGE_MASK
        bit = 1 << (number & 7)
        if page[number >> 3] & bit:
            return False
        page[number >> 3] |= bit
        return True

    def _new_page(self, key: tuple[bytes, int]) -> bytearray:
        if len(self._pages) >= self._max_pages:
            del self._pages[next(iter(self._pages))]
            self.is_whole = False
        page = self._pages[key] = bytearray(_PAGE_BYTES)
        return page
