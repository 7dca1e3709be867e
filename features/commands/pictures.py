"""What all pictures share: their formats, their style, a time axis, and how a file is written."""

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from features.atomic import written_whole

FORMATS = (".png", ".svg", ".pdf")


def style() -> AbstractContextManager[None]:
    """Small type, no frame; holds inside the ``with``."""
    return mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


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
    """Write the figure whole or not at all."""
    with written_whole(out) as draft:
        figure.savefig(draft, dpi=130, format=out.suffix[1:].lower())
    return out
