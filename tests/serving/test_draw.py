"""Pictures of stored decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sqlalchemy import Engine

from features.bars import Market
from serving.cli import main
from serving.draw import Picture, served_series
from serving.store.engine import StoreError


@pytest.fixture
def decided(
    sqlite: Engine, bench: Callable[..., Any], champion: Callable[..., Any], tail: list[Any]
) -> tuple[str, Any]:
    """The URL of a store with a day of decisions, and the bench that made them."""
    made = bench(sqlite, champion("1"))
    for bars in tail:
        made.feed(bars)
    return sqlite.url.render_as_string(hide_password=False), made


def test_the_series_is_what_was_served(decided: tuple[str, Any], market: Market) -> None:
    database, made = decided
    symbol = market.symbols[1]
    series = served_series(database, Picture(symbol, "short", "initial"))
    assert list(series.index[-24:]) == list(market.times[-24:])
    np.testing.assert_array_equal(series["close"].iloc[-24:], market.close[symbol].iloc[-24:])
    last = next(v for v in made.answer(symbol) if (v["side"], v["kind"]) == ("short", "initial"))
    for name in ("required_rate", "served_rate", "base_rate", "rung"):
        assert series[name].iloc[-1] == last[name]


def test_a_span_is_cut_on_both_ends(decided: tuple[str, Any], market: Market) -> None:
    picture = Picture(market.symbols[0], start=market.times[-10], end=market.times[-5])
    assert list(served_series(decided[0], picture).index) == list(market.times[-10:-4])


def test_the_command_draws_a_picture(decided: tuple[str, Any], market: Market, tmp_path: Path) -> None:
    out = tmp_path / "served.png"
    assert main(["draw", market.symbols[0], str(out), "--database", decided[0]]) == 0
    assert imread(out).std() > 0.01
    assert [p.name for p in tmp_path.glob("*.png")] == ["served.png"]
    assert not list(tmp_path.glob(".served*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["NONE", "a.png"], "no decision on NONE"),
        (["ALPHA", "a.txt"], ".png"),
        (["ALPHA", "a.png", "--side", "up"], "side is 'up'"),
        (["ALPHA", "a.png", "--kind", "both"], "kind is 'both'"),
        (["ALPHA", "a.png", "--from", "soon"], "soon"),
    ],
)
def test_a_wrong_wish_is_refused_in_words(
    decided: tuple[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    out = tmp_path / arguments[1]
    assert main(["draw", arguments[0], str(out), "--database", decided[0], *arguments[2:]]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    with pytest.raises(StoreError, match="no store"):
        served_series(f"sqlite:///{file}", Picture("ALPHA", start=pd.Timestamp("2024-01-01", tz="UTC")))
    assert not file.exists()
