"""Tables and the closing checklist."""

from course_lib.lab import Table, checklist


def test_a_table_aligns_text_left_and_figures_right():
    """As one reads them."""
    table = Table(["name", "time"], [["a", "1.0 s"], ["longer", "10.0 s"]])
    assert repr(table) == "name      time\na        1.0 s\nlonger  10.0 s"


def test_text_in_a_table_is_not_taken_for_html():
    """A name with `<` shows as it is."""
    assert "&lt;b&gt;" in Table(["x"], [["<b>"]])._repr_html_()


def test_a_checklist_ticks_what_holds():
    """Any true value is a tick, any false one a cross."""
    result = checklist({"good": 3, "bad": []})
    assert repr(result) == "✔ good\n✘ bad"
    assert not result.complete
    assert checklist({"good": True}).complete
    assert "✘" in result._repr_html_()
