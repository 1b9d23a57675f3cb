"""
The board's page in a real browser: Debian's Chromium, driven by Playwright.

Run by `make test-browser`, which installs Playwright; no part of `make test`.
"""
