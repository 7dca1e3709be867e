"""``POST /v1/forecast``: VaR and ES from the bars of the request alone. Touches neither store nor
decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from features.bars import VALUE_COLUMNS, Market
from models.margin import fhs
from serving.board import utc_text
from serving.champion import Champion
from serving.errors import ForecastUnavailableError, InvalidInputError
from serving.outlook import Forecast, Needs
from serving.requests import BarIn, checked_bars
from serving.store.bars import SymbolBars

SIDES = ("long", "short")


def forecast_from(
    bars: list[BarIn], interval: pd.Timedelta, needs: Needs, champion: Champion | None, most_bars: int
) -> dict[str, Any]:
    """The champion's forecast at the newest close of the bars; where there is none, or it leaves a contract
    out, that of the rules rung from the contract's own bars. ``rung`` says which.

    Raises ``InvalidInputError`` for bars that break a rule and ``ForecastUnavailableError`` where the history
    is too short even for the rules rung.
    """
    _refuse_long_spans(bars, interval, most_bars)
    tables = {symbol: _table(found, interval) for symbol, found in checked_bars(bars, interval).items()}
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


def _refuse_long_spans(bars: list[BarIn], interval: pd.Timedelta, most_bars: int) -> None:
    """Refuse bars so far apart that the grid between them would not fit into memory."""
    first = min(b.open_time for b in bars)
    for row, bar in enumerate(bars):
        if (bar.open_time - first) / interval >= most_bars:
            raise InvalidInputError(
                f"row {row} ({bar.symbol}): the bar opens more than {most_bars} bars after the oldest",
                "send the newest bars only, without long holes",
                field=f"bars.{row}.open_time",
                value=bar.open_time.isoformat(),
                row=row,
            )


def _table(bars: SymbolBars, interval: pd.Timedelta) -> pd.DataFrame:
    table = pd.DataFrame(bars.values, columns=list(VALUE_COLUMNS)).dropna(axis=1, how="all")
    closed = pd.DatetimeIndex(bars.closes_s.astype("datetime64[s]")).as_unit("ns").tz_localize("UTC")
    table.insert(0, "open_time", closed - interval)
    return table


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
