"""Checks that every HTML page must pass in a browser: width, errors, requests, accessibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS = (390, 768, 1440)
WORST = ("serious", "critical")


def faults(browser: Browser, path: Path) -> list[str]:
    """Return the defects of a page at each width, in light and dark mode.

    Defects are: a page wider than the window, script errors, requests over the network, and findings of axe.
    """
    # axe takes a second, so it runs once per scheme: colors differ by scheme, and little else differs by width
    from axe_playwright_python.sync_playwright import Axe

    found: list[str] = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("console", lambda message: found.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: found.append(f"error: {error}"))
        page.on("request", lambda request: found.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if over := page.evaluate("document.documentElement.scrollWidth - innerWidth"):
                found.append(f"{over} pixels too wide at {width}, {scheme}")
            if (scheme, width) in (("light", WIDTHS[0]), ("dark", WIDTHS[-1])):
                for broken in Axe().run(page).response["violations"]:
                    if broken["impact"] in WORST:
                        found.append(f"{broken['id']} at {width}, {scheme}: {broken['nodes'][0]['html']}")
        context.close()
    return found
