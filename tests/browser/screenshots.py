"""Pictures of the board for the documentation: `make test-browser SCREENSHOTS=docs`."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page


FOLDER_VARIABLE = "BRIDGE_TEST_SCREENSHOTS"

# A page of documentation shows both at once.
MAX_BYTES = 200_000

_ROOT = Path(__file__).parents[2]

# Of all colors so many are left: what previews lose by it is hard to see.
_COLORS = (256, 128, 64, 32, 16)


def take(page: Page) -> None:
    """Take a page in both themes."""
    folder = _ROOT / os.environ.get(FOLDER_VARIABLE, "build/board")
    folder.mkdir(parents=True, exist_ok=True)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        picture = _small(page.screenshot())
        (folder / f"board-{scheme}.png").write_bytes(picture)


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
