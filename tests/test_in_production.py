"""The page "in production": its programs run, and it names figures that there are."""

import re

import pytest
from howto_pages import ROOT, blocks, links

from course_lib.monitoring import PerformanceMonitor, to_prometheus

PAGE = ROOT / "docs" / "in-production.md"


def test_the_programs_run_and_print_what_the_page_says(capsys, monkeypatch):
    """One after another, each with the names of those before, as a reader would try them."""
    pytest.importorskip("redis", reason="it is in the extra `scale`")
    monkeypatch.setenv("PROVIDER_URL", "")
    names = {"__name__": "service"}
    for number, program in enumerate(blocks(PAGE, "python"), 1):
        exec(compile(program, f"{PAGE.name}, program {number}", "exec"), names)  # noqa: S102
    assert capsys.readouterr().out == "".join(blocks(PAGE, "text"))


def test_each_figure_to_alert_on_is_exported():
    """A metric that was renamed would leave an alert silent for ever."""
    named = set(re.findall(r"pipeline_\w+", PAGE.read_text("utf-8")))
    monitor = PerformanceMonitor()
    with monitor.measure("rag"):
        pass
    exported = set(re.findall(r"pipeline_\w+", to_prometheus(monitor.report())))
    assert named <= exported


def test_its_links_lead_somewhere():
    """Notebooks and how-to pages are where it says."""
    assert [target for target in links(PAGE) if not target.exists()] == []
