"""From a closed bar to a decision: what each rung foresees, then the safety engine. Reads no clock, stores
nothing.

Whatever a model does (raises, answers NaN, leaves a contract out) makes that candidate absent and is counted;
the ladder of ``models.margin`` does the rest.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import format_duration, whole_bars
from features.pipeline import FeatureFrame
from models.margin import engine, fhs
from models.margin.base_rate import Cycle, base_rates, rate_pair
from models.margin.requirement import RequirementError
from models.margin.types import Candidates, Decision, MarketState, Overrides, Rates
from models.settings import MarginSettings, SettingsError
from serving.audit.version import engine_version
from serving.board import Answer, answers
from serving.calibration import LiveCalibration, ReadCalibration
from serving.champion import Champion
from serving.contract import Contract, MonthlyRates, as_last_good
from serving.explain import explanations, moved
from serving.finer import FinerGrid
from serving.inputs import Known, missing_inputs, nothing_finer
from serving.outlook import Forecast, Needs, Outlook, Seen, trusted
from serving.positions import NO_POSITIONS, PositionDesk
from serving.rules_rung import VERSION, WeeklyTail, rules_forecast, week_of, weekly_tail
from serving.sources import SourceCloses, agreed_closes
from serving.store.decisions import NewDecision
from serving.window import MarketWindow

logger = logging.getLogger(__name__)

NO_OVERRIDES = Overrides()
#: ``(symbol, until_close_s, source)`` to all close times (s) and prices of the contract that the store has;
#: source None is the one that is decided on.
ReadCloses = Callable[[str, int, str | None], tuple[NDArray[np.int64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Decided:
    """A decision, as it goes into the store, what it leaves of the contract, and the answers it publishes."""

    stored: NewDecision
    contract: Contract
    decision: Decision
    answers: list[Answer]


class Decider:
    """Decides contracts on a window of bars. ``failures`` counts what kept a rung from answering,
    ``last_failure`` says it in words."""

    def __init__(
        self,
        interval_s: int,
        margin: MarginSettings,
        window: MarketWindow,
        read_closes: ReadCloses,
        read_calibration: ReadCalibration,
        explain: Literal["always", "moved", "never"] = "always",
        finer: FinerGrid | None = None,
        sources: SourceCloses | None = None,
        positions: PositionDesk | None = None,
    ) -> None:
        self.needs, self._positions = Needs.of(margin), positions
        self.interval_s, self.window, self._sources = interval_s, window, sources
        self._finer = finer
        self._lay_under = nothing_finer if finer is None else finer.laid_under
        self.calibration = LiveCalibration(window, read_calibration, self._lay_under, self._agreed_frame)
        self._margin, self._read_closes, self._explain = margin, read_closes, explain
        self.failures: Counter[str] = Counter()
        self.last_failure: str | None = None
        refuse_horizons_off_the_grid(interval_s, margin)

    def look(
        self, contracts: Sequence[Contract], until_s: int, champion: Champion | None
    ) -> tuple[dict[str, Outlook], dict[str, Contract]]:
        """What is foreseen of each contract at the close ``until_s``, and the contracts with what was learned
        on the
        way (weekly tail, monthly rates)."""
        forecasts, regimes, frame = self._ask(champion, until_s)
        version = "" if champion is None else champion.version
        missing = {} if champion is None or frame is None else missing_inputs(frame, champion.inputs(frame))
        outlooks, learned = {}, {}
        for contract in contracts:
            symbol = contract.symbol
            tail, rules = self._rules(contract, until_s)
            model = self._seen((forecasts or {}).get(symbol), symbol, until_s, version)
            if forecasts is not None and symbol not in forecasts:
                self.failures["the model left a contract out"] += 1
            finer_until_s = None if self._finer is None else self._finer.known_until(symbol, until_s)
            known = Known(finer_until_s, missing.get(symbol, {}))
            outlooks[symbol] = Outlook(model, rules, regimes.get(symbol, {}), known=known)
            rates = self._monthly_rates(contract, until_s)
            learned[symbol] = replace(contract, memory=replace(contract.memory, tail=tail, rates=rates))
        if champion is not None and frame is not None:
            outlooks = self._explained(champion, frame, outlooks, learned)
        return outlooks, learned

    def decide(
        self,
        contract: Contract,
        outlook: Outlook,
        *,
        trigger: str,
        until_s: int | None,
        now_s: float,
        champion: str,
        overrides: Overrides = NO_OVERRIDES,
    ) -> Decided:
        """Decide one contract on what is known at the close ``until_s`` (None: no bar of any contract yet),
        obeying these orders."""
        symbol, memory = contract.symbol, contract.memory
        newest = None if until_s is None else self.window.newest_close(symbol, until_s)
        cycle = Cycle(self._default(symbol)) if memory.rates is None else memory.rates.cycle
        market = MarketState(
            known_symbol=True,
            interval_s=float(self.interval_s),
            last_close_s=None if newest is None else float(newest[0]),
            bars=(0 if until_s is None else int(np.isfinite(self.window.closes(symbol, until_s)).sum())),
            close=None if newest is None else newest[1],
            base_rates=cycle.base,
            long_run_var=cycle.long_run_var,
            horizons_s=(self.needs.initial.horizon_s, self.needs.maintenance.horizon_s),
            other_closes=(
                () if newest is None or self._sources is None else self._sources.at(symbol, newest[0])
            ),
            last_return=None if newest is None else self._last_return(symbol, newest[0]),
            extreme_losses=cycle.extreme_losses,
            stressed_rates=cycle.stressed_rates,
            positions=(NO_POSITIONS if self._positions is None else self._positions.standing(symbol, now_s)),
        )
        good = memory.last_good
        candidates = Candidates(
            None if outlook.champion is None else outlook.champion.candidate,
            None if good is None else good.candidate,
            None if outlook.rules is None else outlook.rules.candidate,
        )
        decision, state = engine.decide(
            candidates, market, self.needs.limits, overrides, contract.state, now_s
        )
        behind = {"champion": outlook.champion, "last_good": good, "rules": outlook.rules}.get(decision.rung)
        if decision.rung == "champion" and outlook.champion is not None:
            good = as_last_good(outlook.champion)
        after = replace(
            contract,
            seq=contract.seq + 1,
            decided_close_s=(
                int(decision.bar_close_s)
                if trigger in ("bar", "start") and decision.bar_close_s is not None
                else contract.decided_close_s
            ),
            state=state,
            memory=replace(
                memory,
                last_good=good,
                champion=champion,
                overrides=tuple(o.id for o in overrides.orders),
            ),
        )
        forecast = None if behind is None else behind.forecast
        # Reasons are the champion's; of what another rung asks they say nothing.
        explanation = outlook.explanation if decision.rung == "champion" else None
        known = outlook.known.to_json() if decision.rung == "champion" else None
        shown = answers(symbol, decision, forecast, outlook.regime, explanation, known)
        return Decided(
            _row(trigger, decision, after, forecast, outlook.regime, explanation, known, shown),
            after,
            decision,
            shown,
        )

    def agreed(self, symbol: str, until_s: int, bars: int | None = None) -> NDArray[np.float64]:
        """The last ``bars`` closes (None: all that are kept) up to a close that the window has, where the
        sources disagree their median."""
        own = self.window.closes(symbol, until_s)
        own = own if bars is None else own[-bars:]
        if self._sources is None:
            return own
        others = self._sources.beside(symbol, until_s, len(own))
        return agreed_closes(own, others, self.needs.limits.feeds_degraded_ratio)

    def _agreed_frame(self, until_s: int, bars: int) -> pd.DataFrame:
        """The last closes of all contracts on which the sources agree, time by symbol."""
        closes = self.window.market(until_s, bars).close
        if self._sources is None:
            return closes
        agreed = {symbol: self.agreed(symbol, until_s, len(closes)) for symbol in closes.columns}
        return pd.DataFrame(agreed, index=closes.index, columns=closes.columns)

    def _last_return(self, symbol: str, close_s: int) -> float | None:
        """Log return of the bar that closed then; None where the bar before it is missing."""
        closes = self.agreed(symbol, close_s, 2)
        if len(closes) < 2 or not np.isfinite(closes).all():
            return None
        return float(np.log(closes[1] / closes[0]))

    def _ask(
        self, champion: Champion | None, until_s: int
    ) -> tuple[Mapping[str, Forecast] | None, Mapping[str, Mapping[str, float]], FeatureFrame | None]:
        """Forecasts (None where there is no model, or none that answers) and regimes by symbol, and the
        features that they were made from."""
        if champion is None:
            return None, {}, None
        self.calibration.follow(champion)
        try:
            self.calibration.absorb(champion, until_s)
        except (Exception, SystemExit) as error:  # as below; factors that wait a while are still good
            self._fail(
                "the calibration could not go on",
                f"model version {champion.version}: {type(error).__name__}: {error}",
            )
        try:
            market = self.window.market(until_s, champion.look_back_bars)
            frame = champion.frame(self._lay_under(market, champion.asked))
            said, regimes = champion.foresee(frame)
            found = self.calibration.forecasts(until_s, said)
            return trusted(found, champion.trust(frame, said)), regimes, frame
        except (Exception, SystemExit) as error:  # a model is somebody else's code: it may raise anything
            self._fail(
                "the model raised", f"model version {champion.version}: {type(error).__name__}: {error}"
            )
            return None, {}, None

    def _explained(
        self,
        champion: Champion,
        frame: FeatureFrame,
        outlooks: dict[str, Outlook],
        contracts: Mapping[str, Contract],
    ) -> dict[str, Outlook]:
        """The outlooks with the reasons that are asked for. A model that cannot tell them still answers."""
        asked = {s: o.champion for s, o in outlooks.items() if o.champion is not None}
        if self._explain == "moved":
            last = {s: contracts[s].memory.last_good for s in asked}
            asked = {
                s: seen
                for s, seen in asked.items()
                if moved(None if (good := last[s]) is None else good.candidate, seen.candidate)
            }
        if self._explain == "never" or not asked:
            return outlooks
        try:
            told = explanations(champion.artifact.model, frame, asked, self.needs)
        except (Exception, SystemExit) as error:  # as in _ask
            self._fail(
                "the model explained nothing",
                f"model version {champion.version}: {type(error).__name__}: {error}",
            )
            return outlooks
        return {s: replace(o, explanation=told.get(s)) for s, o in outlooks.items()}

    def _seen(self, forecast: Forecast | None, symbol: str, made_at_s: int, version: str) -> Seen | None:
        if forecast is None:
            return None
        flaw = forecast.flaw
        if flaw is not None:
            self._fail("the model answered no tail", f"model version {version}: {symbol}: {flaw}")
            return None
        try:
            return Seen(
                self.needs.candidate("champion", forecast, float(made_at_s), float(self.interval_s), version),
                forecast,
            )
        except RequirementError as error:
            self._fail("the model lacks a horizon or level", f"model version {version}: {error}")
            return None

    def _rules(self, contract: Contract, until_s: int) -> tuple[WeeklyTail | None, Seen | None]:
        newest = self.window.newest_close(contract.symbol, until_s)
        if newest is None:
            return None, None
        close_s = newest[0]
        tail = contract.memory.tail
        try:
            if tail is None or not tail.fits(week_of(close_s), self.needs):
                closes = self.agreed(contract.symbol, close_s)
                tail = weekly_tail(closes, close_s, self.interval_s, self.needs)
            recent = self.agreed(contract.symbol, close_s, fhs.window_in_bars(float(self.interval_s)) + 1)
            forecast = rules_forecast(tail, recent, self.interval_s)
        except fhs.TooShortError:
            return None, None  # rule 9 of the engine says so in the trace
        except ValueError as error:
            self._fail("the rules rung cannot forecast", f"{contract.symbol}: {error}")
            return None, None
        if forecast is None:
            return tail, None
        interval_s = float(self.interval_s)
        return tail, Seen(
            self.needs.candidate("rules", forecast, float(close_s), interval_s, VERSION), forecast
        )

    def _monthly_rates(self, contract: Contract, until_s: int) -> MonthlyRates:
        month_s = _month_of(until_s)
        given, default = self._given(contract.symbol), self._default(contract.symbol)
        others = () if self._sources is None else self._sources.columns
        tails = [str(self.needs.initial), str(self.needs.maintenance)]
        settings = json.dumps([given, default, *tails, *others])
        known = contract.memory.rates
        if known is not None and (known.month_s, known.settings) == (month_s, settings):
            return known
        grid, on_grid = self._gridded(contract.symbol, month_s, others)
        found = base_rates(
            grid,
            on_grid,
            interval_s=float(self.interval_s),
            initial=self.needs.initial,
            maintenance=self.needs.maintenance,
            default=default,
            given=given,
            since_s=float(month_s),
        )
        return MonthlyRates(month_s, settings, found.at(float(month_s)))

    def _gridded(
        self, symbol: str, until_s: int, others: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All close times that the store has, on the regular grid, and the closes on which the sources
        agree; NaN where a bar is missing."""
        times_s, closes = self._read_closes(symbol, until_s, None)
        if not len(times_s):
            return np.empty(0), np.empty(0)
        first_s, rows = int(times_s[0]), int((times_s[-1] - times_s[0]) // self.interval_s) + 1

        def laid(times_s: NDArray[np.int64], closes: NDArray[np.float64]) -> NDArray[np.float64]:
            found = np.full(rows, np.nan)
            row = (times_s - first_s) // self.interval_s
            inside = (row >= 0) & (row < rows)
            found[row[inside]] = closes[inside]
            return found

        agreed = laid(times_s, closes)
        if others:
            beside = np.stack([laid(*self._read_closes(symbol, until_s, source)) for source in others])
            agreed = agreed_closes(agreed, beside, self.needs.limits.feeds_degraded_ratio)
        return first_s + self.interval_s * np.arange(rows, dtype="float64"), agreed

    def _given(self, symbol: str) -> Rates | None:
        pair = self._margin.base_rates.get(symbol)
        return (
            None
            if pair is None
            else rate_pair(pair["initial"], pair["maintenance"], f"base rate of {symbol}")
        )

    def _default(self, symbol: str) -> Rates:
        pair = self._margin.default_base_rate
        return self._given(symbol) or rate_pair(pair["initial"], pair["maintenance"], "default base rate")

    def _fail(self, kind: str, words: str) -> None:
        if words != self.last_failure:
            logger.warning("%s: %s", kind, words)
        self.failures[kind] += 1
        self.last_failure = words


def refuse_horizons_off_the_grid(interval_s: int, margin: MarginSettings) -> None:
    """Raise ``models.settings.SettingsError`` where a kind's horizon is not a whole number of bars."""
    interval = pd.Timedelta(seconds=interval_s)
    for name in ("initial", "maintenance"):
        horizon = getattr(margin, name).horizon
        try:
            whole_bars(horizon, interval)
        except ValueError as error:
            raise SettingsError(
                f"[margin] {name}.horizon_s ({format_duration(horizon)}) does not fit [serving] "
                f"interval_s: {error}"
            ) from error


def _row(
    trigger: str,
    decision: Decision,
    after: Contract,
    forecast: Forecast | None,
    regime: Mapping[str, float],
    explanation: list[dict[str, Any]] | None,
    known: dict[str, Any] | None,
    shown: list[Answer],
) -> NewDecision:
    record: dict[str, Any] = {
        "decision": decision.to_json(),
        "forecast": None if forecast is None else forecast.to_json(),
        "regime": dict(regime),
        "explanation": explanation,
        "known": known,
        "champion": after.memory.champion,
        "engine": engine_version(),
    }
    return NewDecision(
        symbol=after.symbol,
        seq=after.seq,
        trigger=trigger,
        decision_time=None if decision.bar_close_s is None else int(decision.bar_close_s),
        made_at=decision.decided_at_s,
        rung=decision.rung,
        mode=decision.mode,
        model_version=decision.model_version,
        record=record,
        state=after.state.to_json(),
        memory=after.memory.to_json(),
        published={"answers": shown},
    )


def _month_of(time_s: int) -> int:
    month = datetime.fromtimestamp(time_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(month.timestamp())
