"""JupyterLab on a copy of this repository, driven in headless Chromium.

Used by the end-to-end tests and by tools/screenshot.py. Nothing of the repository, of the user's
Jupyter settings or of the user's home directory is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Page, Playwright, sync_playwright

from nbtools.execution import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Lab", "Notebook", "chromium", "running_lab"]

START_TIMEOUT = 60  # seconds, for the server and for a kernel
RUN_TIMEOUT = 300  # seconds, for all cells of a notebook
POLLING = 200  # milliseconds between two looks at whether they have run
PRIVATE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
BROWSER_ARGUMENTS = [
    "--no-sandbox",  # needed in containers, where the tests run as root; only own pages are opened
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}
SERVER_OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    "--ServerApp.disable_check_xsrf=True",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
]
KERNEL_IDLE = """() => window.jupyterapp?.shell.currentWidget
    ?.sessionContext?.session?.kernel?.status === 'idle'"""
RUN_ALL = """async () => {
    const { commands } = window.jupyterapp;
    await commands.execute('notebook:clear-all-cell-outputs');
    window.ran = false;
    commands.execute('notebook:run-all-cells').finally(() => { window.ran = true; });
}"""
HAS_RUN = f"() => window.ran && ({KERNEL_IDLE})()"
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const cells = panel.content.widgets.filter(c => c.model.type === 'code');
    const source = c => c.model.sharedModel.getSource().trim();
    return {
        counts: cells.filter(source).map(c => c.model.executionCount),
        errors: cells.flatMap((c, i) => c.model.outputs.toJSON()
            .filter(o => o.output_type === 'error' &&
                         !(c.model.getMetadata('tags') || []).includes('raises-exception'))
            .map(o => `code cell ${i}: ${o.ename}: ${o.evalue}`)),
    };
}"""
LINKS = """() => [...document.querySelectorAll('.jp-RenderedMarkdown a[href]')]
    .filter(a => !a.classList.contains('jp-InternalAnchorLink')).map(a => a.href)"""


def chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass(slots=True)
class Notebook:
    """A notebook open in the browser, and what went wrong in its page so far."""

    page: Page
    page_errors: list[str] = field(default_factory=list)

    def run_all(self) -> dict[str, Any]:
        """Runs all cells in the kernel as it is.

        Returns:
            `counts`, the execution count of each code cell that is not empty (None: not executed),
            and `errors`, a line for each error in a cell that is not tagged `raises-exception`.

        Raises:
            playwright.sync_api.TimeoutError: the cells took longer than `RUN_TIMEOUT`.
        """
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function(HAS_RUN, timeout=1000 * RUN_TIMEOUT, polling=POLLING)
        return dict(self.page.evaluate(STATE))

    def links(self) -> list[str]:
        """The addresses that the links in the text lead to, as JupyterLab resolved them."""
        return list(self.page.evaluate(LINKS))


@dataclass(frozen=True, slots=True)
class Lab:
    """A running JupyterLab and a browser beside it."""

    url: str
    context: Any
    outside: list[str]
    """Addresses of requests that left this machine."""

    def store(self, path: str, notebook: dict[str, Any]) -> None:
        """Stores a notebook on the server, as JupyterLab does."""
        address = f"{self.url}/api/contents/{path}"
        body = json.dumps({"type": "notebook", "content": notebook}).encode()
        request = urllib.request.Request(address, body, method="PUT")  # noqa: S310 - own server
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - own server

    @contextmanager
    def open(self, path: str, *, width: int = 1280) -> Iterator[Notebook]:
        """Opens a notebook, by its path from the repository's root, with a fresh kernel."""
        page = self.context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        notebook = Notebook(page)
        page.on("pageerror", lambda error: notebook.page_errors.append(str(error)))
        page.goto(f"{self.url}/lab/tree/{path}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=1000 * START_TIMEOUT)
        page.wait_for_function(KERNEL_IDLE, timeout=1000 * START_TIMEOUT)
        try:
            yield notebook
        finally:
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
            page.close()


@contextmanager
def running_lab(driver: Playwright | None = None) -> Iterator[Lab]:
    """Starts JupyterLab and a browser; both end with the block.

    Args:
        driver: What drives the browser, where one runs in this thread already.
    """
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shutil.copytree(ROOT, folder / "course", ignore=PRIVATE)
        with (
            _server(folder) as url,
            nullcontext(driver) if driver else sync_playwright() as playwright,
        ):
            context = playwright.chromium.launch_persistent_context(
                folder / "profile",
                executable_path=chromium(),
                headless=True,
                args=BROWSER_ARGUMENTS,
            )
            lab = Lab(url, context, [])
            loopback = "http://127.0.0.1:"  # JupyterLab, and the live page of a provider
            inside = (loopback, loopback.replace("http", "ws"), "data:", "blob:", "about:")
            context.on(
                "request",
                lambda r: None if r.url.startswith(inside) else lab.outside.append(r.url),
            )
            try:
                yield lab
            finally:
                context.close()


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """A JupyterLab server whose root is `folder/course`, with settings of its own."""
    for name, settings in SETTINGS.items():
        file = folder / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    port = _free_port()
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}", *SERVER_OPTIONS]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder / 'course'}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | _own_folders(folder),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_server(server, url, folder / "log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _own_folders(folder: Path) -> dict[str, str]:
    names = ["HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"]
    own = {name: str(folder / name.lower()) for name in [*names, "JUPYTERLAB_WORKSPACES_DIR"]}
    return own | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_server(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{url}/api/status", timeout=1).close()  # noqa: S310 - own server
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
