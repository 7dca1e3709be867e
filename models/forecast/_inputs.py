"""What the learning models look at: prices' own features, relative to the EWMA scale.

Chosen on decision times before October 2024. ``gbm`` sees ``INPUTS``. ``network`` and ``quantile`` see
``MORE_INPUTS`` as well, which pay only where a model is kept from learning them by heart: by dropout, shallow
trees, and both sides of the market in one. Order flow made the forecasts no better at one hour, and worse at
four. The level of volatility is left out: one that the training window never saw cannot be learned from.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.forecast._residuals import SCALE_FEATURE

#: Every bar table has the columns that these need, so a model does not depend on the source.
INPUTS = (
    *("hour_sin", "hour_cos", "weekend"),
    *("hour_profile", "hour_profile_4h", "hour_profile_1d", "hour_profile_past"),
    *("market_volatility", "leader_volatility", "market_range_1h", "leader_range_1h"),
    *("market_return_1h", "market_return_4h", "market_return_1d", "leader_return_1h"),
    *("har_1h", "har_4h", "har_1d", "har_1w", "har_1m"),
    *("return_1h", "return_4h", "return_1d", "return_1w"),
    *("downside_4h", "upside_4h", "downside_1d", "upside_1d", "downside_1w", "upside_1w"),
    *("parkinson_1h", "parkinson_4h", "parkinson_1d", "parkinson_1w"),
    *("drawdown_1w", "rally_1w"),
)
#: What ``network`` and ``quantile`` look at besides; see docs/forecasts.md for what it is worth.
MORE_INPUTS = (
    *("usual_1h_2d", "usual_1h_5d", "usual_1h_20d", "usual_4h_2d", "usual_4h_20d"),
    *("usual_1h_4w", "usual_4h_4w", "usual_1d_4w"),
    *("new_york_sin", "new_york_cos", "new_york_sin_2", "new_york_cos_2", "week_sin", "week_cos"),
    *("business_day", "new_york_8h", "new_york_9h", "new_york_10h", "new_york_14h"),
    *("above_low_1h", "above_low_4h", "above_low_1d", "below_high_1h", "below_high_4h", "below_high_1d"),
    *("move_lag_1", "move_lag_2", "move_lag_3", "volatility_of_volatility_1d"),
    *("correlation_1d", "market_correlation_1d", "relative_volatility", "dispersion_1h", "dispersion_1d"),
    *("leader_return_4h", "leader_return_1d", "return_1m", "largest_move_1d", "jump_share_1d"),
    *("drawdown_1d", "rally_1d", "drawdown_1m", "rally_1m"),
    *("market_har_4h", "market_har_1d", "market_har_1w", "market_parkinson_4h"),
    *("leader_har_4h", "leader_har_1d", "leader_har_1w", "leader_parkinson_4h"),
    *("market_downside_1d", "market_upside_1d", "market_drawdown_1w", "market_rally_1w"),
    *("leader_downside_1d", "leader_upside_1d", "leader_drawdown_1w", "leader_rally_1w"),
)
WIDE_INPUTS = (*INPUTS, *MORE_INPUTS)


def needed_features(inputs: tuple[str, ...] = INPUTS) -> tuple[str, ...]:
    """What a pipeline must give: the scale and the inputs."""
    return (SCALE_FEATURE, *inputs)


def input_names(names: tuple[str, ...], wanted: tuple[str, ...] = INPUTS) -> tuple[str, ...]:
    """The inputs wanted, all of which a frame must have. Raises ``ValueError`` where one is missing."""
    absent = [n for n in wanted if n not in names]
    if absent:
        raise ValueError(
            f"features {absent} are missing from the training data; build it with Pipeline.fit(market, "
            f"model.feature_names())"
        )
    return wanted


#: Words in the names of inputs that change their sign in the mirror, and of those that change places with
#: another. A drawdown (below 0) becomes a rally (above 0), so both hold for them. All others stay.
_SIGNED = ("return_", "drawdown_", "rally_")
_PAIRS = (("downside_", "upside_"), ("drawdown_", "rally_"), ("above_low_", "below_high_"))


@cache
def mirrored(inputs: tuple[str, ...]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """How to mirror a row of inputs, x[order] * sign: as it were had every price moved the other way (in
    logarithms). Twice is once not at all. Raises ``ValueError`` where one of a pair is not an input."""
    order, sign = np.arange(len(inputs)), np.ones(len(inputs))
    for i, name in enumerate(inputs):
        if any(word in name for word in _SIGNED):
            sign[i] = -1.0
        for one, other in (*_PAIRS, *((b, a) for a, b in _PAIRS)):
            if one in name:
                order[i] = inputs.index(name.replace(one, other))
    return order, sign


def both_sides(rows: NDArray[np.float64], inputs: tuple[str, ...]) -> NDArray[np.float32]:
    """Inputs of each row as the sides see them, the long in the mirror and the short as they are; and which
    side it is (0 or 1, in the order of ``SIDES``) as one more. Shape (row, side, input + 1)."""
    order, sign = mirrored(inputs)
    out = np.empty((len(rows), 2, len(inputs) + 1), dtype="float32")
    out[:, 0, :-1], out[:, 1, :-1] = rows[:, order] * sign, rows
    out[:, :, -1] = (0.0, 1.0)
    return out
