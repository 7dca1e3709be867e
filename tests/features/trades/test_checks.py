"""What is refused of trades, with file, row, value and remedy, and what is only warned of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from features.trades.arrays import Trades
from features.trades.checks import CheckSettings, TradeChecks, TradeError, check_values

Tape = Callable[..., Trades]


def test_values_that_cannot_be(tape: Tape) -> None:
    good = tape([0, 1, 2], [100, 101, 102], [1, 2, -3])
    check_values(good, "a.parquet")

    def refused(bad: Trades, rows: int = 0) -> TradeError:
        with pytest.raises(TradeError) as caught:
            check_values(bad, "a.parquet", rows)
        return caught.value

    error = refused(replace(good, price=np.array([100.0, 0.0, -1.0])), rows=500)
    assert (error.where, error.row, error.column, error.value, error.count) == (
        "a.parquet", 501, "price", 0.0, 2,
    )  # fmt: skip
    assert "price is not a number above 0" in str(error) and "leave the row out" in str(error)
    for wrong in (np.nan, np.inf, 0.0, -2.0):
        assert refused(replace(good, size=np.array([1.0, 2.0, wrong]))).row == 2
    assert "size is in base currency" in str(refused(replace(good, size=np.array([1e11, 1.0, 1.0]))))
    # Milliseconds and microseconds taken for nanoseconds lie in 1970, seconds taken for them as well.
    for scale in (10**9, 10**6, 10**3):
        error = refused(replace(good, time_ns=good.time_ns // scale))
        assert error.column == "timestamp" and str(error.value).startswith("1970-01-")
        assert "2009 to 2100" in error.rule and "unit of time" in error.remedy


def test_rows_of_a_choice_are_named_as_in_the_file(tape: Tape) -> None:
    bad = tape([0, 1, 2], [100, 101, -1], [1, 1, 1])
    with pytest.raises(TradeError, match=r"f, row 90: price = -1.0"):
        check_values(bad, "f", np.array([7, 30, 90]))
    checks = TradeChecks()
    checks.check(tape([5, 6], [100, 100], [1, 1]), "f", np.array([7, 30]))
    with pytest.raises(TradeError, match=r"f, row 51: timestamp = 2025-03-01 00:00:05.500000: it is earlier"):
        checks.check(tape([6, 5.5], [100, 100], [1, 1]), "f", np.array([50, 51]))
    with pytest.raises(TradeError, match="f, row 50: timestamp"):
        checks.check(tape([5.5, 7], [100, 100], [1, 1]), "f", np.array([50, 51]))


def test_ordered_ids_occur_once_and_upwards(tape: Tape) -> None:
    def checked(ids: list[int], more: list[int] | None = None, **settings: object) -> TradeChecks:
        checks = TradeChecks(CheckSettings(ids="ordered", **settings))
        checks.check(tape(list(range(len(ids))), [100] * len(ids), [1] * len(ids), id=ids), "a.csv")
        if more:
            seconds = [len(ids) + i for i in range(len(more))]
            checks.check(tape(seconds, [100] * len(more), [1] * len(more), id=more), "a.csv", len(ids))
        return checks

    with pytest.raises(TradeError, match=r"a.csv, row 2: trade_id = 8: the id occurs twice"):
        checked([7, 8, 8])
    with pytest.raises(TradeError, match="row 3: trade_id = 6: the id is smaller than that before"):
        checked([7, 8, 9], [6])
    with pytest.raises(TradeError, match=r"row 3: trade_id = 9: the id occurs twice; sort"):
        checked([7, 8, 9], [9, 10])
    left = checked([7, 8, 8, 9], [8, 9, 10], repeats="leave_out")
    assert (left.report.trades, left.report.repeats, left.report.missing_ids) == (4, 3, 0)
    assert "3 trades were left out" in left.finish()[0]


def test_missing_ids_are_counted_warned_of_and_refused_where_they_are_many(tape: Tape) -> None:
    checks = TradeChecks()
    checks.check(tape(list(range(8)), [100] * 8, [1] * 8, id=[1, 2, 3, 4, 5, 6, 7, 9]), "a")
    checks.check(tape([9, 10], [100] * 2, [1] * 2, id=[10, 11]), "a", 8)
    assert (checks.report.missing_ids, checks.report.largest_id_gap) == (1, 1)
    assert checks.report.missing_share == 1 / 11
    (warning,) = checks.finish()
    assert "1 ids are missing (9.1%, at most 1 in a row)" in warning
    strict = TradeChecks(CheckSettings(most_missing_ids=0.05))
    strict.check(tape([0, 1], [100] * 2, [1] * 2, id=[1, 3]), "a")
    with pytest.raises(TradeError, match=r"33.3%, at most 1 in a row.*more than 5.0%; get the tape whole"):
        strict.finish()


def test_files_that_do_not_meet_are_holes_and_overlaps_are_refused(tape: Tape) -> None:
    checks = TradeChecks()
    checks.check(tape([0, 1], [100] * 2, [1] * 2, id=[1, 2]), "january")
    checks.check(tape([9, 10], [100] * 2, [1] * 2, id=[900, 901]), "march")
    assert (checks.report.holes, checks.report.missing_ids) == (1, 0)
    assert "between files in 1 places" in checks.finish()[0]
    with pytest.raises(TradeError, match=r"february, row 0: timestamp.*in the order of their times"):
        checks.check(tape([5], [100], [1], id=[5]), "february")
    with pytest.raises(
        TradeError, match=r"again, row 0: trade_id = 901: the id occurs twice; give the files"
    ):
        checks.check(tape([10], [100], [1], id=[901]), "again")


def test_labels_need_no_order_and_say_nothing_of_missing_trades(tape: Tape) -> None:
    rng = np.random.default_rng(1)
    labels = rng.permutation(10**6)[:200].tolist()
    checks = TradeChecks()
    first = checks.check(tape(list(range(100)), [100] * 100, [1] * 100, id=labels[:100]), "a")
    assert first.id is None, "nothing is missing between labels"
    again = [*labels[100:150], labels[3]]
    with pytest.raises(TradeError, match=f"row 150: trade_id = {labels[3]}: the id occurs twice"):
        checks.check(tape([100 + i for i in range(51)], [100] * 51, [1] * 51, id=again), "a", 100)


def test_absurd_steps_of_the_price(tape: Tape) -> None:
    for price in (1100.0, 9.0):
        with pytest.raises(TradeError, match=r"a, row 1: price = .*more than 10 times the price before"):
            TradeChecks().check(tape([0, 1], [100, price], [1, 1]), "a")
        checks = TradeChecks()
        checks.check(tape([0], [100], [1]), "a")
        with pytest.raises(TradeError, match="a, row 1: price"):
            checks.check(tape([1], [price], [1]), "a", 1)
    TradeChecks(CheckSettings(largest_price_step=1e6)).check(tape([0, 1], [7, 0.0001], [1, 1]), "a")


def test_sides_against_the_tick_rule(tape: Tape) -> None:
    rng = np.random.default_rng(2)
    buy = rng.random(2000) < 0.5
    prices = 100 + np.cumsum(np.where(buy, 0.01, -0.01))
    seconds = list(range(2000))
    right = TradeChecks()
    for part in (slice(0, 700), slice(700, 2000)):
        right.check(tape(seconds, prices.tolist(), np.where(buy, 1, -1).tolist()).rows(part), "a")
    assert right.report.price_changes == 1999
    assert right.report.disagreement == 0 and right.finish() == []
    wrong = TradeChecks()
    wrong.check(tape(seconds, prices.tolist(), [-1] * 2000), "a")
    assert 0.4 < wrong.report.disagreement < 0.6
    assert "disagrees with the tick rule at" in wrong.finish()[0]
    assert wrong.finish(sided=False) == []
    few = TradeChecks()
    few.check(tape([0, 1], [100, 101], [1, -1]), "a")
    assert few.report.disagreement == 1 and few.finish() == []


def test_nothing_is_nothing(tape: Tape) -> None:
    checks = TradeChecks()
    assert len(checks.check(tape([], [], []), "a")) == 0
    assert checks.finish() == [] and np.isnan(checks.report.disagreement)


def test_arrays_of_other_lengths_or_types_are_refused(tape: Tape) -> None:
    good = tape([0, 1], [1, 1], [1, 1])
    with pytest.raises(ValueError, match=r"price is float64 of shape \(3,\), and must be float64 of shape"):
        replace(good, price=np.ones(3))
    with pytest.raises(ValueError, match="buy is int64"):
        replace(good, buy=np.ones(2, dtype="int64"))
    with pytest.raises(ValueError, match="some trades have id and others have not"):
        Trades.joined([good, replace(good, id=np.arange(2))])
