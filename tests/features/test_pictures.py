"""What all pictures share: how a file is written."""

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from features.commands.pictures import FORMATS, check_format, save, style


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_picture_is_the_same_file(suffix, tmp_path) -> None:
    def drawn(name: str) -> bytes:
        with style():
            figure = Figure()
            figure.subplots().plot([1, 2], [3, 4], label="a line")
            return save(figure, tmp_path / f"{name}{suffix}").read_bytes()

    assert drawn("one") == drawn("other")


class Trembling(ConstrainedLayoutEngine):
    """The constrained layout, whose last bits differ from run to run, by a chosen difference."""

    def __init__(self, difference: float) -> None:
        super().__init__()
        self.difference = difference

    def execute(self, fig) -> None:
        super().execute(fig)
        for axis in fig.axes:
            left, bottom, width, height = axis.get_position().bounds
            axis.set_position((left, bottom + self.difference, width, height))


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_last_bits_of_a_layout_are_not_in_the_file(suffix, tmp_path) -> None:
    def drawn(difference: float) -> bytes:
        with style():
            figure = Figure(layout=Trembling(difference))
            for axis in figure.subplots(3, 1, sharex=True):
                axis.plot([1, 2], [3, 4])
                axis.set_title("a panel")
            return save(figure, tmp_path / f"{difference}{suffix}").read_bytes()

    assert drawn(0.0) == drawn(2.0**-50)


def test_a_figure_is_laid_out_before_it_is_written(tmp_path) -> None:
    with style():
        figure = Figure(layout="constrained")
        axis = figure.subplots()
        axis.set_ylabel("words beside the axis\n" * 8)
        before = axis.get_position().x0
        save(figure, tmp_path / "one.svg")
    assert axis.get_position().x0 > before


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"picture.gif cannot be drawn; choose a name .*\.svg"):
        check_format(tmp_path / "picture.gif")
