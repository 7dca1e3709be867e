"""The calibration of the champion as it serves: which losses have matured, and what the factors are now.

A state begins where the artifact's ends, or where the store says that a server left it, and goes on close by
close (``models.forecast.calibration``). What the champion said at the closes before is remembered for its
longest horizon. After a start, or where closes passed without decisions, it is forecast again from the bars
of the window, all at once: a forecast is a function of the bars, so that it comes out as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from models.forecast.base import TailForecast
from models.forecast.calibration import CalibrationState, absorb, calibrated
from serving.board import utc_text
from serving.champion import Champion
from serving.inputs import LayUnder, nothing_finer
from serving.outlook import Forecast
from serving.window import MarketWindow

logger = logging.getLogger(__name__)

#: The state that the store has of an artifact, by its fingerprint, as JSON; None where there is none.
ReadCalibration = Callable[[str], Mapping[str, Any] | None]
#: ``(until_close_s, bars)`` to the last closes up to then, time by symbol, by which losses are judged.
JudgedCloses = Callable[[int, int], pd.DataFrame]

#: A calibration that has fallen further behind leaves the older losses out: forecasts for all of them at once
#: have to fit into memory and into the time until the next bar.
MOST_CLOSES = 1000


@dataclass(frozen=True)
class Standing:
    """The calibration of one artifact; ``state`` is None where its model is not calibrated."""

    artifact: str
    state: CalibrationState | None


class LiveCalibration:
    """Holds the ``standing`` of the champion in use. One writer, the decision loop; a reader gets one
    standing whole. What is ``unsaved`` goes into the store with the decisions that were made with it."""

    def __init__(
        self,
        window: MarketWindow,
        read: ReadCalibration,
        lay_under: LayUnder = nothing_finer,
        closes: JudgedCloses | None = None,
    ) -> None:
        self._window, self._read, self._lay_under = window, read, lay_under
        self._closes = closes or (lambda until_s, bars: window.market(until_s, bars).close)
        self._said: dict[int, TailForecast] = {}
        self._saved: Standing | None = None
        self.standing = Standing("", None)

    def follow(self, champion: Champion) -> None:
        """Be at the champion's calibration: the stored one, or the artifact's where that is newer. Raises
        what the store raises."""
        artifact, state = champion.artifact.info.fingerprint, champion.artifact.calibration
        if self.standing.artifact == artifact:
            return
        if state is not None:
            state = _newer(state, self._read(artifact))
        self._said.clear()
        self.standing = self._saved = Standing(artifact, state)

    def absorb(self, champion: Champion, until_s: int) -> None:
        """Count the losses that matured by the close ``until_s`` and were not counted yet. Raises whatever
        the model raises where it has to forecast again; the state then stays, and the next close tries
        anew."""
        state = self.standing.state
        interval_s = self._window.interval_s
        if state is None or until_s <= _until_s(state):
            return
        horizons_s = [int(h.total_seconds()) for h in state.horizons]
        first_s = max(_until_s(state), until_s - MOST_CLOSES * interval_s) + interval_s
        matured = range(first_s, until_s + 1, interval_s)
        needed = sorted({close_s - h for close_s in matured for h in horizons_s})
        if any(close_s not in self._said for close_s in needed):
            self._say_again(champion, needed[0], needed[-1])
        bars = (until_s - needed[0]) // interval_s + 1
        closes = self._closes(until_s, bars)
        said = [self._said[close_s] for close_s in needed if _time(close_s) in closes.index]
        if said:
            state = absorb(state, TailForecast.joined(said), closes)
        self.standing = replace(self.standing, state=replace(state, until=_time(until_s)))
        oldest_s = until_s - max(horizons_s)
        self._said = {close_s: found for close_s, found in self._said.items() if close_s >= oldest_s}

    def forecasts(self, until_s: int, said: TailForecast) -> dict[str, Forecast]:
        """What the champion said at the close ``until_s``, as it is served, by symbol. Raises ``ValueError``
        where that is no tail, or of other horizons or levels than the calibration."""
        found = as_served(said, self.standing.state)
        if self.standing.state is not None:
            self._said[until_s] = said
        return found

    def forget(self, since_s: int) -> None:
        """Bars came late: what was said from ``since_s`` on did not know them."""
        self._said = {close_s: found for close_s, found in self._said.items() if close_s < since_s}

    @property
    def unsaved(self) -> dict[str, Any] | None:
        """What the store has to learn of the artifact, as JSON; None where it knows."""
        state = self.standing.state
        return None if self.standing is self._saved or state is None else state.to_json()

    def saved(self) -> None:
        """The store knows."""
        self._saved = self.standing

    def status(self) -> dict[str, Any] | None:
        """Up to which close losses were counted, and the least and largest factor of any contract; None where
        nothing is calibrated."""
        state = self.standing.state
        if state is None:
            return None
        factor = np.exp(np.append(state.theta_v, state.theta_e))
        return {
            "until": utc_text(_until_s(state)),
            "lowest_factor": float(factor.min()),
            "highest_factor": float(factor.max()),
        }

    def _say_again(self, champion: Champion, first_s: int, last_s: int) -> None:
        """Forecast at every close from ``first_s`` to ``last_s`` that is not remembered; one without any
        forecast is remembered as such."""
        interval_s = self._window.interval_s
        closes_s = [c for c in range(first_s, last_s + 1, interval_s) if c not in self._said]
        span = (closes_s[-1] - closes_s[0]) // interval_s
        market = self._lay_under(
            self._window.market(closes_s[-1], champion.look_back_bars + span), champion.asked
        )
        said = champion.past(market, _time(closes_s[0]))
        times_s = pd.DatetimeIndex(said.rows.get_level_values("time")).as_unit("s").asi8
        for close_s in closes_s:
            a, b = np.searchsorted(times_s, [close_s, close_s + 1])
            self._said[close_s] = TailForecast(
                said.rows[a:b], said.horizons, said.levels, said.var[a:b], said.es[a:b]
            )


def as_served(said: TailForecast, state: CalibrationState | None) -> dict[str, Forecast]:
    """A forecast of one close by symbol, times the factors of ``state`` where there are some."""
    found = said if state is None else calibrated(said, state)
    horizons_s = tuple(h.total_seconds() for h in found.horizons)
    symbols = [str(symbol) for symbol in found.rows.get_level_values("symbol")]
    factors = [None] * len(symbols) if state is None else [*state.factor(symbols).swapaxes(0, 1)]
    return {
        symbol: Forecast(horizons_s, tuple(found.levels), found.var[i], found.es[i], factors[i])
        for i, symbol in enumerate(symbols)
    }


def _newer(begun: CalibrationState, found: Mapping[str, Any] | None) -> CalibrationState:
    """The artifact's state, or the stored one where that is newer; a word in the log where that is
    broken."""
    if found is None:
        return begun
    try:
        stored = CalibrationState.from_json(found)
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the stored calibration cannot be read, the artifact's is used: %r", error)
        return begun
    return stored if _until_s(stored) >= _until_s(begun) else begun


def _until_s(state: CalibrationState) -> int:
    return 0 if state.until is None else int(state.until.timestamp())


def _time(close_s: int) -> pd.Timestamp:
    return pd.Timestamp(close_s, unit="s", tz="UTC")
