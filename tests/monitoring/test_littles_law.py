"""Little's law, as a check on the monitor's own figures."""

import asyncio

import pytest
from network_support import chain, poisson, run

from course_lib.lab import simulate
from course_lib.monitoring.littles_law import littles_law
from course_lib.monitoring.monitor import PerformanceMonitor


def test_littles_law_holds_for_a_run_that_has_ended():
    """The integral over time and the durations come from different places."""
    report, _ = run(chain("exponential"), poisson(40, 300))
    laws = littles_law(report)
    assert list(laws) == list(report.steps)
    for law in laws.values():
        assert law.holds
        assert law.gap < 1e-6
    assert "in flight" in str(laws["generate"])


def test_a_step_that_does_not_keep_up_is_off():
    """Many are in flight that have not ended: on the left only."""

    async def program():
        monitor = PerformanceMonitor()

        async def item(number):
            with monitor.measure("step"):
                await asyncio.sleep(number)

        tasks = [asyncio.create_task(item(number)) for number in range(20)]
        await asyncio.sleep(5.5)
        report = monitor.report()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return report

    law = littles_law(simulate(program).value)["step"]
    assert not law.holds
    assert law.in_flight > law.expected
    assert "off by" in str(law)


def test_durations_that_did_not_pass_are_noticed():
    """Ten seconds recorded within none."""
    monitor = PerformanceMonitor(timer=lambda: 0.0)
    monitor.record("step", 10.0)
    assert littles_law(monitor.report())["step"].expected == pytest.approx(1.0)


def test_a_tolerance_is_a_share():
    """Not a percentage."""
    with pytest.raises(ValueError, match="share from 0 to below 1"):
        littles_law(PerformanceMonitor().report(), tolerance=5)
