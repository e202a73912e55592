"""Notebook 2: what its graders compute."""

from course_lib.lab.exercises.rate_limiting import largest_excess


def test_the_excess_is_that_of_the_worst_window():
    """Three at once, of which two may; later ones are within the rate."""
    assert largest_excess([0.0, 0.0, 0.0, 5.0], rate=1, capacity=2) == 1
    assert largest_excess([0.0, 1.0, 2.0], rate=1, capacity=1) == 0
