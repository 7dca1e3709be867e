"""``POST /v1/forecast``: VaR and ES from the bars of the request alone. Touches neither store nor
decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from features.bars import Market
from models.margin import fhs
from serving.board import utc_text
from serving.champion import Champion
from serving.errors import ForecastUnavailableError
from serving.outlook import Forecast, Needs
from serving.requests import BarIn, bar_tables

SIDES = ("long", "short")


def forecast_from(
    bars: list[BarIn], interval: pd.Timedelta, needs: Needs, champion: Champion | None
) -> dict[str, Any]:
    """The champion's forecast at the newest close of the bars; where there is none, or it leaves a contract
    out, that of the rules rung from the contract's own bars. ``rung`` says which.

    Raises ``InvalidInputError`` for bars that break a rule and ``ForecastUnavailableError`` where the history
    is too short even for the rules rung.
    """
    tables = bar_tables(bars, interval)
    market = Market.from_bars(tables, interval)
    found: dict[str, Forecast] = {}
    if champion is not None:
        try:
            found = {s: f for s, f in champion.look(market)[0].items() if f.finite}
        except Exception:  # the rules rung answers, and says so
            found = {}
    made_at_s = market.times[-1].timestamp()
    entries = []
    for symbol in market.symbols:
        forecast, rung = found.get(symbol), "champion"
        if forecast is None:
            forecast, rung = _by_rules(market, symbol, interval, needs), "rules"
        entries += [
            {
                "symbol": symbol,
                "side": side,
                "rung": rung,
                "model_version": champion.version if rung == "champion" and champion is not None else "",
                "tail": forecast.by_horizon(side),
            }
            for side in SIDES
        ]
    return {"decision_time": utc_text(made_at_s), "forecasts": entries}


def _by_rules(market: Market, symbol: str, interval: pd.Timedelta, needs: Needs) -> Forecast:
    closes = market.close[symbol].to_numpy(dtype="float64")
    closes = closes[: int(np.flatnonzero(np.isfinite(closes))[-1]) + 1]
    try:
        var, es = fhs.filtered_historical_simulation(
            closes, interval.total_seconds(), needs.horizons_s, needs.levels
        )
    except fhs.TooShortError as error:
        raise ForecastUnavailableError(
            f"the bars of {symbol} do not carry a forecast: {error}",
            "send more bars of the symbol, without holes",
            field="bars",
            value=f"{int(np.isfinite(closes).sum())} bars",
        ) from error
    return Forecast(needs.horizons_s, needs.levels, var, es)
