"""What all pictures share: their formats, their style, a time axis, and how a file is written."""

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from features.atomic import written_whole

FORMATS = (".png", ".svg", ".pdf")
#: What a format would write of the moment; without it, the same picture is the same file.
_TIMES: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def style() -> AbstractContextManager[None]:
    """Small type, no frame; holds inside the ``with``."""
    return mpl.rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "foremargin",  # names within the file are otherwise random
        }
    )


def check_format(out: Path) -> None:
    """Raise ``ValueError`` where the suffix is none of ``FORMATS``."""
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"{out} cannot be drawn; choose a name that ends with one of {list(FORMATS)}")


def label_times(axis: Axes) -> None:
    """Short dates on the x axis."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def save(figure: Figure, out: Path) -> Path:
    """Write the figure whole or not at all; its layout, if it has one, is settled first and stays."""
    _settle(figure)
    with written_whole(out) as draft:
        suffix = out.suffix.lower()
        figure.savefig(draft, dpi=130, format=suffix[1:], metadata=_TIMES.get(suffix, {}))
    return out


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round the places of its axes.

    The solver behind the constrained layout takes its terms in the order of their addresses in memory, so
    that the last bits of a place differ from run to run; an SVG names its clip paths by those bits.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis in figure.axes:
        left, bottom, width, height = (round(length, 6) for length in axis.get_position(original=True).bounds)
        axis.set_position((left, bottom, width, height))
