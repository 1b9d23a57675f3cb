"""Pictures of the board for the documentation: `make test-browser SCREENSHOTS=docs`."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.scenes import fill
from tests.browser.stand_in import StandIn


FOLDER_VARIABLE = "BRIDGE_TEST_SCREENSHOTS"

# A page of documentation shows both at once.
MAX_BYTES = 200_000

_ROOT = Path(__file__).parents[2]

# Of all colors so many are left: what previews lose by it is hard to see.
_COLORS = (256, 128, 64, 32, 16)


def test_a_full_board_has_its_pictures(board: StandIn, open_page: Open) -> None:
    """Both are small enough for the documentation."""
    fill(board)
    page = open_page(board.url)
    page.wait_state("Live")
    expect(page.find(".card")).to_have_count(40)
    for picture in _take(page.page):
        assert 0 < picture.stat().st_size <= MAX_BYTES


def _take(page: Page) -> list[Path]:
    """Take a page in both themes."""
    folder = _ROOT / os.environ.get(FOLDER_VARIABLE, "build/board")
    folder.mkdir(parents=True, exist_ok=True)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    files = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        files.append(folder / f"board-{scheme}.png")
        files[-1].write_bytes(_small(page.screenshot()))
    return files


def _small(picture: bytes) -> bytes:
    """Give a picture with as few colors as it takes to be small."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    for colors in _COLORS:
        small = BytesIO()
        image.quantize(colors, dither=Image.Dither.NONE).save(
            small, "PNG", optimize=True
        )
        if len(small.getvalue()) <= MAX_BYTES:
            return small.getvalue()
    raise ValueError(
        f"a picture has {len(small.getvalue())} bytes, more than {MAX_BYTES}"
    )
