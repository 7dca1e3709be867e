"""``POST /v1/forecast``: VaR and ES from the bars of the request alone. Touches neither store nor
decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from features.bars import VALUE_COLUMNS, Market
from models.forecast.calibration import CalibrationState
from models.margin import fhs
from serving.board import utc_text
from serving.calibration import as_served
from serving.champion import Champion
from serving.errors import ForecastUnavailableError, InvalidInputError
from serving.inputs import missing_inputs
from serving.outlook import Forecast, Needs
from serving.requests import BarIn, checked_bars
from serving.store.bars import SymbolBars

SIDES = ("long", "short")
#: More could not be answered within the time of a request.
MOST_SYMBOLS = 256
#: Rows times symbols of the grid that the bars span, holes included.
MOST_CELLS = 2_000_000


def forecast_from(
    bars: list[BarIn],
    interval: pd.Timedelta,
    needs: Needs,
    champion: Champion | None,
    calibration: CalibrationState | None = None,
) -> dict[str, Any]:
    """The champion's forecast at the newest close of the bars, calibrated as its decisions are now; where
    there is none, or it leaves a contract out, that of the rules rung from the contract's own bars. ``rung``
    says which, and ``missing_inputs`` names the families of features of which the model did not know all.

    Raises ``InvalidInputError`` for bars that break a rule and ``ForecastUnavailableError`` where the history
    is too short even for the rules rung.
    """
    _refuse_large_grids(bars, interval)
    tables = {symbol: _table(found, interval) for symbol, found in checked_bars(bars, interval).items()}
    market = Market.from_bars(tables, interval)
    found: dict[str, Forecast] = {}
    missing: dict[str, dict[str, tuple[str, ...]]] = {}
    if champion is not None:
        try:
            frame = champion.frame(market)
            served = as_served(champion.foresee(frame)[0], calibration)
            found = {s: f for s, f in served.items() if f.flaw is None}
            missing = missing_inputs(frame, champion.inputs(frame))
        except (Exception, SystemExit):  # the rules rung answers, and says so
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
                "missing_inputs": sorted(missing.get(symbol, {})) if rung == "champion" else [],
                "tail": forecast.by_horizon(side),
            }
            for side in SIDES
        ]
    return {"decision_time": utc_text(made_at_s), "forecasts": entries}


def _refuse_large_grids(bars: list[BarIn], interval: pd.Timedelta) -> None:
    """Refuse what would not fit into memory or time: many symbols, or few bars far apart."""
    symbols: set[str] = set()
    for row, bar in enumerate(bars):
        symbols.add(bar.symbol)
        if len(symbols) > MOST_SYMBOLS:
            raise InvalidInputError(
                f"row {row} ({bar.symbol}): the bars are of more than {MOST_SYMBOLS} symbols",
                "send the symbols in several requests",
                field=f"bars.{row}.symbol",
                value=bar.symbol,
                row=row,
            )
    first = min(b.open_time for b in bars)
    most_bars = MOST_CELLS // len(symbols)
    for row, bar in enumerate(bars):
        if (bar.open_time - first) / interval >= most_bars:
            raise InvalidInputError(
                f"row {row} ({bar.symbol}): the bar opens {most_bars} bars or more after the oldest, "
                f"the most for {len(symbols)} symbols",
                "send the newest bars only, without long holes, or fewer symbols",
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
