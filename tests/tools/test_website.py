"""The website: every page of the course, nothing from elsewhere, found by search."""

import http.server
import shutil
import threading
from functools import partial
from html.parser import HTMLParser

import nbformat
import pytest
import website

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The pages, laid out for Sphinx."""
    folder = tmp_path_factory.mktemp("site") / "source"
    website.lay_out(folder)
    return folder


@pytest.fixture(scope="module")
def built(source):
    """The website, built without a warning; a broken link inside it is one."""
    target = source.parent / "site"
    assert website.build(source, target) == 0
    return target


@pytest.fixture
def address(built):
    """The website, served on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

    handler = partial(Quiet, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Fetched(HTMLParser):
    """What a page makes a browser fetch, and its pictures without a text."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.silent = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} and found.get("src"):
            self.addresses.append(found["src"])
        if tag == "link" and found.get("rel") in {"stylesheet", "preload", "icon"}:
            self.addresses.append(found["href"])
        if tag == "img" and "_images/" in (found.get("alt") or "_images/"):  # Sphinx's own text
            self.silent.append(found["src"])


def test_a_solution_is_folded_below_its_exercise(source):
    """The stub stays as it is, and what a reader guesses is no solution."""
    for notebook in sorted((source / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(notebook, as_version=4).cells
        folded = [i for i, cell in enumerate(cells) if "hide-cell" in cell.metadata.get("tags", ())]
        checks = [cell for cell in cells if "check" in cell.metadata.get("tags", ())]
        assert len(folded) >= len(checks) > 0
        for i in folded:
            assert "predict(" not in cells[i].source
            assert cells[i - 1].cell_type == "code"
            assert cells[i - 1].outputs == []


def test_every_public_name_has_a_place_in_the_reference(source):
    """Each package has a page, and each page names all that its package exports."""
    for package in website.PACKAGES:
        page = (source / "api" / f"{package}.md").read_text("utf-8")
        names = website.import_module(f"course_lib.{package}").__all__
        missing = {name for name in names if f".{name}\n" not in page}
        assert missing <= {"plots"}  # a module, which has a page of its own


@pytest.mark.nightly
def test_a_reader_fetches_nothing_from_elsewhere(built):
    """Scripts, styles, fonts and pictures lie beside the pages; every picture has a text."""
    for page in built.rglob("*.html"):
        found = Fetched(page.read_text("utf-8"))
        assert [each for each in found.addresses if "//" in each and "data:" not in each] == [], (
            page
        )
        assert found.silent == [], page


@pytest.mark.nightly
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian's package: chromium)")
def test_search_finds_notebook_how_to_and_reference(address):
    """With the network cut but for the site itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        elsewhere = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(f"{address}/search.html?q=Retry-After")
        page.wait_for_selector("text=/found \\d+ page/")
        hits = [link.get_attribute("href") for link in page.query_selector_all("ul.search a")]
        browser.close()
    assert {hit.partition("/")[0] for hit in hits} >= {"notebooks", "docs", "api"}
    assert [url for url in elsewhere if not url.startswith(address)] == []
