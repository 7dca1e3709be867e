"""What the learning models look at: prices' own features, relative to the EWMA scale.

Chosen on decision times from January to September 2024. All 63 inputs of the families volatility,
calendar and spillover together were worse at one hour and a day than these, and about equal at four
hours. Order flow made the forecasts no better at one hour, and worse at four. The level of volatility is
left out: one that the training window never saw cannot be learned from.
"""

from __future__ import annotations

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


def needed_features() -> tuple[str, ...]:
    """What a pipeline must give: the scale and the inputs."""
    return (SCALE_FEATURE, *INPUTS)


def input_names(names: tuple[str, ...], wanted: tuple[str, ...] = INPUTS) -> tuple[str, ...]:
    """The inputs wanted, all of which a frame must have. Raises ``ValueError`` where one is missing."""
    absent = [n for n in wanted if n not in names]
    if absent:
        raise ValueError(
            f"features {absent} are missing from the training data; build it with Pipeline.fit(market, "
            f"model.feature_names())"
        )
    return wanted
