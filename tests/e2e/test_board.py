"""The board in a real browser: forty made-up learners, a reload, a killed room."""

import pytest
from nbtools.browser import BROWSER_ARGUMENTS, chromium
from room.room_support import result, running_room

pytestmark = pytest.mark.e2e
SIZE = {"width": 1280, "height": 720}
ROWS = "() => document.querySelectorAll('#grid tbody tr').length"
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser(playwright):
    browser = playwright.chromium.launch(executable_path=chromium(), args=BROWSER_ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def page(browser):
    """A page on a beamer's size, and what went wrong in it or left the machine."""
    page = browser.new_page(viewport=SIZE)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda each: page.troubles.append(each.url) if "127.0.0.1" not in each.url
            and not each.url.startswith("data:") else None)  # fmt: skip
    yield page
    page.close()


def test_forty_learners_fit_on_a_beamer(page, tmp_path):
    """Every seat is in sight, nothing is cut off, light and dark; the key leaves the address bar."""
    with running_room(tmp_path / "room.sqlite", "--rehearse=40") as room:
        page.goto(room.board)
        page.wait_for_function(f"{ROWS} == 40", timeout=PATIENCE)
        page.wait_for_selector("#diagnoses li:nth-child(3)", timeout=PATIENCE)
        assert page.url == f"{room.url}/board"
        for theme in ("light", "dark"):
            assert page.evaluate("() => document.documentElement.dataset.theme") == theme
            inside = page.evaluate(
                "() => [...document.querySelectorAll('header span, #grid tbody th, #diagnoses li')]"
                ".every(e => e.getBoundingClientRect().right <= 1280) && document.querySelector("
                "'#grid tbody tr:last-child').getBoundingClientRect().bottom <= 720"
            )
            assert inside
            page.keyboard.press("d")
        page.keyboard.press("n")
        assert page.inner_text("#grid tbody tr:first-child th").endswith("Seat 1")
        assert "Ada" not in page.inner_text("body")
    assert page.troubles == []


def test_the_board_survives_a_reload_and_a_killed_room(page, tmp_path):
    """It says that the room is lost, and shows everything again when it is back."""
    file = tmp_path / "room.sqlite"
    with running_room(file) as room:
        _, token = room.join("<b>Ada</b>")
        page.goto(room.board)
        page.wait_for_function(ROWS, timeout=PATIENCE)
        page.reload()
        page.wait_for_function(ROWS, timeout=PATIENCE)
        room.ask("/api/result", result(), token=token)
        page.wait_for_selector("td.failed", timeout=PATIENCE)
        room.process.kill()
        page.wait_for_selector("html.lost", timeout=PATIENCE)
        with running_room(file, f"--port={room.port}") as again:
            page.wait_for_selector("html:not(.lost)", timeout=PATIENCE)
            again.ask("/api/hand", {"up": True}, token=token)
            page.wait_for_selector("tr.up", timeout=PATIENCE)
            assert page.inner_text("tr.up th") == "✋ <b>Ada</b>"
            page.fill("#minutes", "10")
            page.click("#clock button:first-of-type")
            page.wait_for_function(
                "() => /1.1 (10:00|9:)/.test(document.querySelector('#timer').textContent)",
                timeout=PATIENCE,
            )
