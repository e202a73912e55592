"""`lab.play`: a picture that follows its sliders, and is a plain picture where there are none."""

import base64

import pytest

from course_lib.lab import play
from course_lib.lab.plots import Picture, draw


def bars(rate=10, load=1.5, way="naive") -> Picture:
    """A picture whose words tell what it was drawn with."""
    if rate == 13:
        raise ValueError("13 <is> unlucky")
    return draw(lambda axes: axes.bar([way], [rate * load]) and f"{way}: {rate} x {load}")


@pytest.fixture
def shown():
    """The bars under two sliders and a choice."""
    return play(bars, rate=(1, 20, 1), load=(0.5, 2.0, 0.5), way=["naive", "gate"])


def slider(shown, name):
    """The control of an argument."""
    return shown._controls[name]


def test_it_begins_with_the_defaults(shown):
    """Its picture is the one that the function draws by itself."""
    assert shown.values == {"rate": 10, "load": 1.5, "way": "naive"}
    assert shown.picture.png == bars().png


def test_it_is_a_picture_where_no_widgets_are_shown(shown):
    """The bundle holds the pixels and the words beside the widget."""
    data, metadata = shown._repr_mimebundle_()
    assert data["image/png"] == bars().png
    assert data["text/plain"] == repr(shown) == "naive: 10 x 1.5"
    assert "application/vnd.jupyter.widget-view+json" in data
    assert metadata == {"image/png": {"alt": "naive: 10 x 1.5"}}


def test_the_picture_follows_each_control(shown):
    """Moving one draws anew with the values of all."""
    slider(shown, "rate").value = 20
    slider(shown, "way").value = "gate"
    pixels = base64.b64encode(bars(20, 1.5, "gate").png).decode()
    assert repr(shown) == "gate: 20 x 1.5"
    assert f'<img alt="gate: 20 x 1.5" src="data:image/png;base64,{pixels}">' in shown._frame.value


def test_whole_numbers_stay_whole(shown):
    """A range of whole numbers hands the function whole numbers, one with a fraction does not."""
    slider(shown, "rate").value = 7
    slider(shown, "load").value = 2
    assert [type(value) for value in shown.values.values()] == [int, float, str]


def test_a_value_that_cannot_be_drawn_is_told_and_the_next_one_is_drawn(shown):
    """The error stands above the picture, which stays, until a value can be drawn."""
    slider(shown, "rate").value = 13
    assert '<p role="alert">ValueError: 13 &lt;is&gt; unlucky</p>' in shown._frame.value
    assert repr(shown) == "naive: 10 x 1.5"
    slider(shown, "rate").value = 14
    assert "unlucky" not in shown._frame.value
    assert repr(shown) == "naive: 14 x 1.5"


@pytest.mark.parametrize(
    ("ranges", "error", "message"),
    [
        ({"rate": (1, 20, 1), "other": (1, 2, 1)}, TypeError, "no argument 'other'"),
        ({"rate": (1, 20, 1), "way": ["naive"]}, TypeError, "give 'load' a range"),
        ({"rate": (1, 9, 1), "load": (1, 2, 1), "way": ["naive"]}, ValueError, "rate begins at 10"),
        (
            {"rate": (1, 20, 1), "load": (1, 2, 1), "way": ["gate"]},
            ValueError,
            "way begins at 'naive'",
        ),
        (
            {"rate": (1, 20), "load": (1, 2, 1), "way": ["naive"]},
            TypeError,
            "rate is (lowest, high",
        ),
        (
            {"rate": 3, "load": (1, 2, 1), "way": ["naive"]},
            TypeError,
            "rate is (lowest, highest, st",
        ),
        ({"rate": (1, 20, 0), "load": (1, 2, 1), "way": ["naive"]}, ValueError, "leads nowhere"),
        (
            {"rate": (20, 1, 1), "load": (1, 2, 1), "way": ["naive"]},
            ValueError,
            "rate begins at 10",
        ),
    ],
)
def test_what_cannot_be_played_with_is_told(ranges, error, message):
    """Each misuse names the argument and what it wants."""
    with pytest.raises(error) as told:
        play(bars, **ranges)
    assert message in str(told.value)


def test_an_argument_without_a_default_is_told():
    """Nothing else says where its slider begins."""
    with pytest.raises(TypeError, match="give 'rate' of <lambda>\\(\\) a default"):
        play(lambda rate: bars(), rate=(1, 2, 1))
