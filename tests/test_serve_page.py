"""The page of the prediction server, as a person uses it in a browser.

By form, by file, by keyboard.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Project, serving

shots = os.environ.get("TIDEMILL_PICTURES")  # a folder: the pages are kept there, for docs/serve.md
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def test_each_application_is_tried_in_a_browser_in_light_dark_and_narrow_by_keyboard_and_by_file(
    project: Project, browser, tmp_path: Path
) -> None:
    token = "a-token-of-more-than-16-letters"
    with serving(project, "--all", TIDEMILL_TOKENS=token) as running:
        for scheme, width in (("light", 1200), ("dark", 1200), ("light", 380)):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            page = context.new_page()
            outside: list[str] = []
            said: list[str] = []
            page.on(
                "request",
                lambda request, outside=outside: (
                    outside.append(request.url)
                    if not request.url.startswith((running.address, "data:", "blob:"))
                    else None
                ),
            )
            page.on(
                "console",
                lambda message, said=said: (
                    said.append(message.text)
                    if message.type == "error" and "401" not in message.text
                    else None
                ),
            )
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto(f"{running.address}/#languages")
            page.get_by_label("This server asks for a token").fill(token)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="languages").wait_for()

            # By keyboard alone: from the page's beginning to the field, a text, Ctrl+Enter.
            page.locator("body").press("Tab")
            for _ in range(10):
                if page.evaluate("document.activeElement.id") == "field-text":
                    break
                page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == "field-text"
            page.keyboard.press("Control+a")
            page.keyboard.type("Jeder Mensch hat das Recht auf Leben")
            page.keyboard.press("Control+Enter")
            page.locator(".told", has_text="languages version 1").wait_for()
            assert page.locator(".first").inner_text() in ("deu", "eng", "fra")
            assert page.get_by_role("meter").count() >= 3
            snap(page, f"serve-languages-{scheme}-{width}")
            page.locator("#field-text").fill("")
            page.get_by_role("button", name="Ask").click()
            page.get_by_role("alert").wait_for()
            assert "at least 1 character" in page.locator("#answer").inner_text()

            page.get_by_role("link", name="images").click()
            page.get_by_role("heading", name="images").wait_for()
            picture = tmp_path / "stroke.png"
            picture.write_bytes(drawn())
            page.locator("#field-image").set_input_files(str(picture))
            page.locator("img.preview").wait_for()
            page.get_by_role("button", name="Ask").click()
            page.locator(".told", has_text="images version 1").wait_for()
            snap(page, f"serve-images-{scheme}-{width}")
            page.locator("#field-image").set_input_files(
                {"name": "no.png", "mimeType": "image/png", "buffer": b"not a picture"}
            )
            page.get_by_role("button", name="Ask").click()
            page.get_by_text(re.compile("not a whole picture")).wait_for()

            page.get_by_role("link", name="stocks").click()
            page.get_by_role("heading", name="stocks").wait_for()
            page.get_by_role("button", name="Ask").click()
            page.locator(".told", has_text="stocks version 1").wait_for()
            assert page.locator("#answer table tr").count() >= 4
            snap(page, f"serve-stocks-{scheme}-{width}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"the page is wider than {width}"
            )
            assert not outside and not [line for line in said if "422" not in line], (outside, said)
            context.close()


def snap(page, name: str) -> None:
    if shots:
        page.screenshot(path=f"{shots}/{name}.png")


def drawn() -> bytes:
    import numpy as np

    from tidemill.kit import pictures

    pixels = np.zeros((28, 28), dtype=np.uint8)
    pixels[4:24, 12:15] = 255
    return pictures.png(pixels)
