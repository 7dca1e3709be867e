"""All measures together, their report and what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from features.bars import Market
from training.margin.crashes import Crash
from training.margin.losses import static_table
from training.margin.measures import MarginMeasures, common_rows, measure
from training.margin.printed import show_margin
from training.margin.report import PAGE_FILE, TABLES, html, write_margin_report
from training.margin.served import MarginTableError, served_margins
from training.margin.shortfall import shortfall_of

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]

ROWS = 1400
FIRST = 500


@pytest.fixture(scope="module")
def market(market_of: MarketOf) -> Market:
    """Two symbols whose volatility comes and goes."""
    rng = np.random.default_rng(8)
    scale = 0.01 * np.exp(np.sin(np.arange(ROWS) / 40))
    closes = {s: 100 * np.exp(np.cumsum(scale * rng.standard_t(4, ROWS))) for s in "AB"}
    return market_of(closes)


@pytest.fixture(scope="module")
def table(market: Market, table_of: TableOf) -> pd.DataFrame:
    """One margin that knows the volatility and is served by an engine, one that stands still."""
    own = Market(market.interval, {"close": market.close.iloc[FIRST:]})
    knows = 0.03 * np.exp(np.sin(np.arange(ROWS) / 40))[FIRST:]
    rules = np.where(np.arange(ROWS - FIRST) % 2 == 0, "floor,hysteresis", "")
    served = table_of(own, knows, "knows", rung="champion", mode="fresh", rules=rules.tolist())
    return pd.concat([served, table_of(own, 0.04, "stands still")], ignore_index=True)


@pytest.fixture(scope="module")
def crash(market: Market) -> Crash:
    return Crash("a made crash", market.times[FIRST + 300], market.times[FIRST + 330], "1h")


@pytest.fixture(scope="module")
def found(market: Market, table: pd.DataFrame, crash: Crash) -> MarginMeasures:
    return measure(table, market, resamples=40, crashes=[crash, Crash("absent", *_far(), "2h")])


def _far() -> tuple[pd.Timestamp, pd.Timestamp]:
    return pd.Timestamp("2031-01-01", tz="UTC"), pd.Timestamp("2031-01-02", tz="UTC")


def test_the_static_rate_is_made_where_the_table_has_none(found: MarginMeasures, market: Market) -> None:
    assert found.series == ("knows", "stands still", "static")
    assert found.kinds == ("maintenance", "initial")
    assert found.static_before == market.times[FIRST]
    made = static_table(market, market.times[FIRST:])
    own = made[(made["symbol"] == "A") & (made["side"] == "short") & (made["kind"] == "initial")]
    margin = found.margins["static", "initial"]
    np.testing.assert_allclose(margin.rate[:, 1], own["served_rate"])


def test_the_summary_holds_shortfall_and_ratio(found: MarginMeasures) -> None:
    summary = found.summary.set_index(["series", "kind"])
    knows, still, static = (summary.loc[(s, "maintenance")] for s in ("knows", "stands still", "static"))
    assert static["ratio"] == pytest.approx(1) and static["ratio_low"] == pytest.approx(1)
    assert knows["ratio"] < still["ratio"]
    assert knows["ratio_low"] < knows["ratio"] < knows["ratio_high"]
    assert knows["difference"] == 0  # the table's first series is what others are compared with
    assert still["difference"] == pytest.approx(still["ratio"] - knows["ratio"])
    margin = found.margins["knows", "maintenance"]
    again = shortfall_of(margin.loss, margin.rate)
    assert knows["mean_shortfall"] == pytest.approx(1e6 * again.mean)
    assert knows["rows"] == again.rows == (ROWS - FIRST - 1) * 4
    scaled = shortfall_of(margin.loss, knows["scale"] * margin.rate)
    assert scaled.total == pytest.approx(static["total_shortfall"])


def test_what_is_compared_is_an_argument(market: Market, table: pd.DataFrame) -> None:
    found = measure(
        table, market, equal_to="stands still", compared_with="stands still", resamples=0, crashes=[]
    )
    assert found.series == ("knows", "stands still")
    assert found.static_before is None
    summary = found.summary.set_index(["series", "kind"])
    assert summary.loc[("stands still", "initial"), "ratio"] == pytest.approx(1)
    assert summary.loc[("knows", "initial"), "difference"] == pytest.approx(
        summary.loc[("knows", "initial"), "ratio"] - 1
    )
    with pytest.raises(ValueError, match="series 'x' is not in the margin table"):
        measure(table, market, compared_with="x")


def test_an_earlier_static_rate(market: Market, table: pd.DataFrame) -> None:
    since = market.times[300]
    found = measure(table, market, static_before=since, resamples=0, crashes=[])
    assert found.static_before == since
    expected = static_table(market, market.times[FIRST:], before=since)["served_rate"].iloc[0]
    assert found.margins["static", "initial"].rate[0, 0] == pytest.approx(expected)


def test_series_are_measured_on_the_rows_that_all_have(market: Market, table: pd.DataFrame) -> None:
    late = table["time"] >= market.times[FIRST + 200]
    cut = table[late | (table["series"] == "knows")]
    shared = measure(cut, market, resamples=0, crashes=[]).summary
    assert shared["rows"].nunique() == 2  # one a kind: the last hours have matured over one hour alone
    apart = table[late != (table["series"] == "knows")]
    with pytest.raises(ValueError, match="share no row of initial margin"):
        common_rows(served_margins(apart, market))


def test_a_broken_table_is_refused_before_it_is_measured(market: Market, table: pd.DataFrame) -> None:
    with pytest.raises(MarginTableError, match="twice"):
        measure(pd.concat([table, table.iloc[:1]]), market)
    with pytest.raises(MarginTableError, match="lacks columns"):
        measure(table.drop(columns="series"), market)
    with pytest.raises(MarginTableError, match="no row"):
        measure(table.iloc[:0], market)


def test_contracts_gaps_rungs_rules_and_crashes_are_there(found: MarginMeasures) -> None:
    assert len(found.contracts) == 3 * 2 * 4
    assert {"coverage", "rise_30d", "peak_to_trough", "mean_margin"} <= set(found.contracts)
    assert found.rungs["series"].unique().tolist() == ["knows"]
    assert found.rules.set_index(["kind", "rule"])["share"].to_dict() == {
        (kind, rule): 0.5 for kind in ("initial", "maintenance") for rule in ("floor", "hysteresis")
    }
    assert found.crashes["crash"].unique().tolist() == ["a made crash"]
    assert len(found.through_crashes) == 3 * 2 * 2
    assert [crash.name for crash in found.not_covered] == ["absent"]


def test_one_kind_is_enough(market: Market, table: pd.DataFrame) -> None:
    alone = table[table["kind"] == "maintenance"]
    found = measure(alone, market, horizons={"maintenance": "1h"}, resamples=0, crashes=[])
    assert found.kinds == ("maintenance",)
    assert "maintenance, 1h" in html(found)


def test_the_report_is_a_whole_page(found: MarginMeasures, tmp_path: Path) -> None:
    page = write_margin_report(found, tmp_path / "margin").read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    anchors = re.findall(r'<h2 id="([^"]+)">', body)
    assert len(anchors) == len(set(anchors)) == 11
    assert re.findall(r'<a href="#([^"]+)">', body) == anchors
    assert body.count('<p class="reading">') == len(anchors)
    assert not re.search(r'(?:src|href)="(?!#)', body)  # nothing from outside
    for words in ("a made crash: fell by", "absent (bars of 2h)", "No rung below rules was needed"):
        assert words in body
    assert not re.search(r"\b(nan|nat|none|inf)\b", re.sub(r"<[^>]+>", " ", body).lower())
    assert sorted(p.name for p in (tmp_path / "margin").iterdir()) == sorted(
        [PAGE_FILE, *(f"{name}.parquet" for name in TABLES)]
    )
    summary = pd.read_parquet(tmp_path / "margin" / "summary.parquet")
    pd.testing.assert_frame_equal(summary, found.summary, check_dtype=False)


def test_a_report_of_bare_requirements(market: Market, table: pd.DataFrame, tmp_path: Path) -> None:
    """No engine, no multipliers, no crash, no interval."""
    bare = table[table["series"] == "stands still"].assign(multiplier=np.nan)
    found = measure(bare, market, resamples=0, crashes=[])
    body = write_margin_report(found, tmp_path).read_text(encoding="utf-8")
    for words in ("No engine answered", "No rule is recorded as binding", "No interval was asked for"):
        assert words in body
    assert "cover none of the named crashes" in body


def test_a_rung_that_should_not_have_been_needed_is_said(market: Market, table: pd.DataFrame) -> None:
    below = table.copy()
    below.loc[(below["series"] == "knows") & (below["time"] == market.times[-1]), "rung"] = "static"
    assert "answered 2 decisions although the feed was alive" in html(
        measure(below, market, resamples=0, crashes=[])
    )


def test_what_is_printed(found: MarginMeasures) -> None:
    out = StringIO()
    show_margin(found, Console(file=out, width=150))
    text = out.getvalue()
    ratio = found.summary.set_index(["series", "kind"]).loc[("knows", "maintenance"), "ratio"]
    assert f"{ratio:.3f}" in text
    for words in (
        "Served margin: maintenance margin, over 1h",
        "knows: 0 decisions below the rules rung with a live feed",
        "Through the crashes: a made crash, initial margin",
        "2 of 2" if found.crashes["risen_before"].max() == 2 else "of 2",
    ):
        assert words in text
