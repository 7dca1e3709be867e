"""Coverage tests against published values, slow references and degenerate series."""

import numpy as np
import pytest
from scipy import stats

from models.coverage import (
    CoverageTest,
    averaged,
    by_offset,
    christoffersen,
    diebold_mariano,
    dynamic_quantile,
    kupiec,
    newey_west_lags,
    traffic_light,
    worst,
)


@pytest.mark.parametrize(
    ("hits", "rows", "level", "statistic"),
    [
        (0, 250, 0.99, 5.02517),
        (5, 250, 0.99, 1.95681),
        (10, 250, 0.99, 12.95549),
        (20, 1000, 0.99, 7.82724),
        (37, 1000, 0.95, 3.89531),
        (17, 1043, 0.99, 3.5118),
    ],
)
def test_kupiec_literal_values(hits: int, rows: int, level: float, statistic: float) -> None:
    assert kupiec(hits, rows, level).statistic == pytest.approx(statistic, abs=5e-5)


def test_kupiec_p_values_and_ends() -> None:
    assert kupiec(57, 1043, 0.95).p_value == pytest.approx(0.49694, abs=1e-5)
    assert kupiec(17, 1043, 0.99).p_value == pytest.approx(0.060933, abs=1e-6)
    assert kupiec(10, 1000, 0.99).statistic == pytest.approx(0, abs=1e-9)
    assert kupiec(250, 250, 0.99).statistic == pytest.approx(-2 * 250 * np.log(0.01))
    for hits, rows in ((0, 0), (-1, 10), (11, 10)):
        with pytest.raises(ValueError, match="between 0 and the rows"):
            kupiec(hits, rows, 0.99)


def hits_with_transitions() -> np.ndarray:
    """1043 rows with N00 932, N10 53, N01 53, N11 4: 53 runs of hits, four of them of two, among 986
    misses."""
    series = [0]
    for run in range(53):
        series += [1] * (2 if run < 4 else 1) + [0]
    return np.array(series + [0] * (1043 - len(series)))


def test_christoffersen_literal_values() -> None:
    hits = hits_with_transitions()
    before, after = hits[:-1], hits[1:]
    counts = [int(((before == i) & (after == j)).sum()) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert counts == [932, 53, 53, 4]
    published = christoffersen(hits, 0.95)
    assert published.pof.statistic == pytest.approx(0.46147, abs=5e-6)
    assert published.independence.statistic == pytest.approx(0.25866, abs=5e-6)
    assert published.independence.p_value == pytest.approx(0.61104, abs=5e-6)
    assert published.conditional_coverage.statistic == pytest.approx(0.72013, abs=5e-6)
    assert published.conditional_coverage.p_value == pytest.approx(0.69763, abs=5e-6)
    conditional = christoffersen(hits, 0.95, rows="conditional")
    assert conditional.conditional_coverage.statistic == pytest.approx(0.7300, abs=5e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_christoffersen_of_a_constant_series(value: int) -> None:
    result = christoffersen(np.full(250, value), 0.99)
    assert result.independence.statistic == 0
    assert result.independence.p_value == 1
    assert result.pof == kupiec(250 * value, 250, 0.99)


def test_christoffersen_rejects_clustered_hits_only() -> None:
    clustered = np.zeros(1000)
    clustered[500:510] = 1
    spread = np.zeros(1000)
    spread[50::100] = 1
    assert christoffersen(clustered, 0.99).independence.p_value < 1e-6
    assert christoffersen(spread, 0.99).independence.p_value > 0.5


def test_christoffersen_refuses_what_is_not_a_series_of_hits() -> None:
    with pytest.raises(ValueError, match="other than 0 and 1"):
        christoffersen([0, 2, 0], 0.99)
    with pytest.raises(ValueError, match="not finite in 1 rows"):
        christoffersen([0, np.nan, 0], 0.99)
    with pytest.raises(ValueError, match="at least two"):
        christoffersen([1], 0.99)


@pytest.mark.parametrize(
    ("rows", "green", "red"), [(250, 4, 10), (500, 8, 15), (1000, 14, 24), (8760, 102, 124)]
)
def test_traffic_light_literal_zones(rows: int, green: int, red: int) -> None:
    assert traffic_light(green, rows, 0.99) == "green"
    assert traffic_light(green + 1, rows, 0.99) == "yellow"
    assert traffic_light(red - 1, rows, 0.99) == "yellow"
    assert traffic_light(red, rows, 0.99) == "red"


def test_dynamic_quantile_agrees_with_the_formula_written_out() -> None:
    rng = np.random.default_rng(5)
    var = np.exp(0.2 * rng.standard_normal(400))
    loss = var * 0.7 * rng.standard_normal(400)
    a = 0.05
    y = (loss > var) - a
    X = np.array(
        [[1, y[t - 1], y[t - 2], y[t - 3], y[t - 4], var[t]] for t in range(4, 400)], dtype="float64"
    )
    target = y[4:]
    expected = target @ X @ np.linalg.inv(X.T @ X) @ X.T @ target / (a * (1 - a))
    result = dynamic_quantile(loss, var, 0.95)
    assert result.statistic == pytest.approx(expected)
    assert result.degrees == 6


def test_dynamic_quantile_has_its_size_and_sees_clusters() -> None:
    rng = np.random.default_rng(3)
    losses = rng.standard_normal((300, 1000))
    level_var = stats.norm.ppf(0.95) * np.exp(0.1 * rng.standard_normal((300, 1000)))
    losses *= level_var / stats.norm.ppf(0.95)
    rejected = [dynamic_quantile(x, v, 0.95).p_value < 0.05 for x, v in zip(losses, level_var, strict=True)]
    assert 0.02 < np.mean(rejected) < 0.10
    clustered = np.where(np.arange(1000) // 50 % 4 == 0, 3.0, 0.4) * losses[0]
    assert dynamic_quantile(clustered, level_var[0], 0.95).p_value < 1e-6


def test_dynamic_quantile_without_hits_drops_redundant_regressors() -> None:
    result = dynamic_quantile(np.zeros(500), np.ones(500), 0.99)
    assert result.degrees == 1
    # y = -a in all 496 rows: (496 a)^2 / 496 / (a (1 - a)) = 496 a / (1 - a)
    assert result.statistic == pytest.approx(496 * 0.01 / 0.99)
    with pytest.raises(ValueError, match="too few"):
        dynamic_quantile(np.zeros(10), np.ones(10), 0.99)


def test_by_offset_gives_every_interleaved_series_once() -> None:
    hits = np.array([1, 0, 0, 1, 0, 0, 1, 0])
    tests = by_offset(lambda h: kupiec(int(h.sum()), h.size, 0.5), 3, hits)
    assert tests == (kupiec(3, 3, 0.5), kupiec(0, 3, 0.5), kupiec(0, 2, 0.5))
    assert worst(tests) == kupiec(3, 3, 0.5)
    assert averaged(tests).statistic == pytest.approx(np.mean([t.statistic for t in tests]))
    with pytest.raises(ValueError, match="fewer rows than the 9 offsets"):
        by_offset(lambda h: kupiec(int(h.sum()), h.size, 0.5), 9, hits)
    with pytest.raises(ValueError, match="one kind only"):
        averaged([CoverageTest(1.0, 1), CoverageTest(1.0, 2)])


def slow_hac_t(difference: np.ndarray, lags: int) -> float:
    T, mean = len(difference), sum(difference) / len(difference)
    variance = 0.0
    for i in range(T):
        for j in range(max(0, i - lags), min(T, i + lags + 1)):
            weight = 1 - abs(i - j) / (lags + 1)
            variance += weight * (difference[i] - mean) * (difference[j] - mean) / T
    return mean / np.sqrt(variance / T)


def test_diebold_mariano_agrees_with_a_slow_reference() -> None:
    noise = np.random.default_rng(2).standard_normal(300)
    first = np.convolve(noise, np.ones(4), mode="same") + 0.3
    second = np.zeros(300)
    result = diebold_mariano(first, second, 4)
    assert result.lags == 5
    assert result.mean == pytest.approx(first.mean())
    assert result.t == pytest.approx(slow_hac_t(first, 5))
    assert diebold_mariano(first, second, 4, lags=24).t == pytest.approx(slow_hac_t(first, 24))
    assert diebold_mariano(second, first, 4).t == pytest.approx(-result.t)


def test_diebold_mariano_without_lags_is_the_plain_t() -> None:
    x = np.array([1.0, 2.0, 4.0, 1.0])
    expected = x.mean() / (x.std() / 2)
    assert diebold_mariano(x, np.zeros(4), 1, lags=0).t == pytest.approx(expected)


def test_diebold_mariano_averages_cells_of_one_time_first() -> None:
    x = np.random.default_rng(4).standard_normal(200)
    copied = np.repeat(x[:, None], 6, axis=1).reshape(200, 3, 2)
    zeros = np.zeros_like(copied)
    assert diebold_mariano(copied, zeros, 1).t == pytest.approx(diebold_mariano(x, np.zeros(200), 1).t)
    copied[5, 1, 1] = np.nan
    assert diebold_mariano(copied, zeros, 1).t == pytest.approx(diebold_mariano(x, np.zeros(200), 1).t)
    copied[7] = np.nan
    with pytest.raises(ValueError, match="1 of them without a score"):
        diebold_mariano(copied, zeros, 1)


def test_diebold_mariano_of_constant_differences() -> None:
    assert diebold_mariano(np.ones(50), np.ones(50), 1).t == 0
    assert diebold_mariano(np.full(50, 0.1), np.zeros(50), 1).t == np.inf
    assert diebold_mariano(np.full(50, -0.1), np.zeros(50), 1).t == -np.inf


def test_hac_lags_cover_the_overlap() -> None:
    assert newey_west_lags(100, 24) == 24
    assert newey_west_lags(100, 1) == 4
    assert newey_west_lags(8760, 1) == 10
    assert newey_west_lags(5, 24) == 4
