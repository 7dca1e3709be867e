"""What all pictures share: how a file is written."""

import pytest
from matplotlib.figure import Figure

from features.commands.pictures import FORMATS, check_format, save, style


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_picture_is_the_same_file(suffix, tmp_path) -> None:
    def drawn(name: str) -> bytes:
        with style():
            figure = Figure()
            figure.subplots().plot([1, 2], [3, 4], label="a line")
            return save(figure, tmp_path / f"{name}{suffix}").read_bytes()

    assert drawn("one") == drawn("other")


def test_an_unknown_format_is_refused_with_those_there_are(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"picture.gif cannot be drawn; choose a name .*\.svg"):
        check_format(tmp_path / "picture.gif")
