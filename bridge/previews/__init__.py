"""
From the text of a preview to the image that it holds.

Owns which spellings of a preview are understood (`decoding`) and which kinds of image
are let through, judged by their bytes alone (`sniffing`). What becomes of an image, or
of a preview that is none, is the intake's to decide.
"""

from __future__ import annotations

from bridge.previews.image import Image, read_image


__all__ = ["Image", "read_image"]
