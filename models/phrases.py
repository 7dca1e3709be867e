"""What each base of a feature's name measures, in the words of a trader; ``models.wording`` makes sentences.

A base is a feature's name less whose it is, its window and its resolution: ``imbalance`` of
``market_imbalance_1h_at_15m``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How the value is told: in standard deviations from normal; not at all, as the sine of an hour, of which
#: several have one phrase and belong together; as one of two words; as a probability; as a multiple.
Form = Literal["deviations", "unmeasured", "flag", "probability", "times"]


@dataclass(frozen=True)
class Phrase:
    """What is measured, ``{w}`` standing for its window. ``opposite`` is what a value below 0 is called (of a
    flag: below one half; of what is not measured: an effect below 0); None: the same. ``against`` is what it
    is held against beside what is normal, told last."""

    text: str
    opposite: str | None = None
    form: Form = "deviations"
    against: str = ""

    def words(self, opposite: bool = False) -> str:
        """All of it."""
        text = self.opposite if opposite and self.opposite is not None else self.text
        return f"{text} {self.against}" if self.against else text


#: Features that are divided by the EWMA scale: in a crash all moves are large, and these may be small.
RELATIVE = "relative to volatility"
_CURRENT = "against its current level"
PHRASES: dict[str, Phrase] = {
    # volatility
    "ewma_volatility": Phrase("volatility", form="times"),
    "log_volatility": Phrase("level of volatility"),
    "har": Phrase("volatility over {w}", against=_CURRENT),
    "return": Phrase("rise over {w}", "fall over {w}", against=RELATIVE),
    "downside": Phrase("falls over {w}", against=RELATIVE),
    "upside": Phrase("rises over {w}", against=RELATIVE),
    "bipower": Phrase("volatility without jumps over {w}", against=_CURRENT),
    "jump_share": Phrase("share of jumps in the moves over {w}"),
    "largest_move": Phrase("largest move over {w}", against=RELATIVE),
    "parkinson": Phrase("high-low range over {w}", against=RELATIVE),
    "garman_klass": Phrase("high-low range (Garman-Klass) over {w}", against=RELATIVE),
    "rogers_satchell": Phrase("high-low range (Rogers-Satchell) over {w}", against=RELATIVE),
    # Never above 0: its own opposite.
    "drawdown": Phrase(
        "fall from the highest close of {w}", "fall from the highest close of {w}", against=RELATIVE
    ),
    "rally": Phrase("rise from the lowest close of {w}", against=RELATIVE),
    "above_low": Phrase("rebound from the low of {w}", against=RELATIVE),
    "below_high": Phrase("retreat from the high of {w}", against=RELATIVE),
    "volatility_of_volatility": Phrase("change of volatility over {w}"),
    "autocorrelation": Phrase("moves that went on over {w}", "moves that were taken back over {w}"),
    # flow
    "volume": Phrase("volume over {w}"),
    "trade_intensity": Phrase("number of trades over {w}"),
    "trade_size": Phrase("size of trades over {w}"),
    "imbalance": Phrase("taker buying over {w}", "taker selling over {w}"),
    "flow_persistence": Phrase("persistence of taker flow over {w}"),
    "toxicity": Phrase("one-sided volume over {w}"),
    "illiquidity": Phrase("price move for the volume over {w}"),
    "impact": Phrase("price impact of takers over {w}"),
    # calendar and sessions
    "hour_sin": Phrase("the hour of the day", form="unmeasured"),
    "hour_cos": Phrase("the hour of the day", form="unmeasured"),
    "new_york_sin": Phrase("the hour of the day", form="unmeasured"),
    "new_york_cos": Phrase("the hour of the day", form="unmeasured"),
    "new_york_sin_2": Phrase("the hour of the day", form="unmeasured"),
    "new_york_cos_2": Phrase("the hour of the day", form="unmeasured"),
    "week_sin": Phrase("the day of the week", form="unmeasured"),
    "week_cos": Phrase("the day of the week", form="unmeasured"),
    "weekend": Phrase("a weekend", "no weekend", "flag"),
    "business_day": Phrase("a business day in New York", "no business day in New York", "flag"),
    "hour_profile": Phrase("usual size of moves in the coming {w}"),
    "hour_profile_past": Phrase("usual size of moves in the past 4 h"),
    # spillover
    "volatility": Phrase("volatility", against="against its 30 days"),
    "relative_volatility": Phrase("volatility raised beyond the market's"),
    "range": Phrase("high-low range over {w}", against=RELATIVE),
    "dispersion": Phrase("spread between the contracts' returns over {w}", against=RELATIVE),
    "correlation": Phrase("correlation with the market over {w}"),
    # garch
    "garch_variance": Phrase("GARCH variance"),
    "garch_omega": Phrase("GARCH's level of variance"),
    "garch_persistence": Phrase("GARCH's persistence of variance"),
    # fine and fine_flow
    "realized": Phrase("volatility over {w}", against=_CURRENT),
    "high_low": Phrase("high-low range over {w}", against=RELATIVE),
    "travel": Phrase("distance travelled over {w}", against=RELATIVE),
    "lean": Phrase("moves leaning to rises over {w}", "moves leaning to falls over {w}"),
    "jump_part": Phrase("share of jumps in the moves over {w}"),
    "turnover": Phrase("volume over {w}"),
    "activity": Phrase("number of trades over {w}"),
    "ticket": Phrase("size of trades over {w}"),
    "push": Phrase("taker buying over {w}", "taker selling over {w}"),
    "one_sided": Phrase("one-sidedness of takers over {w}"),
    "price_impact": Phrase("price move for the volume over {w}"),
    # order_flow
    "tape_large": Phrase("share of large trades over {w}"),
    "tape_sizes": Phrase("dispersion of trade sizes over {w}"),
    "tape_bursts": Phrase("trades in bursts over {w}"),
    "tape_spread": Phrase("spread implied by trades over {w}"),
    "tape_large_push": Phrase("large trades buying over {w}", "large trades selling over {w}"),
    "tape_vpin": Phrase("one-sided volume (VPIN) over {w}"),
    "tape_runs": Phrase("runs of trades on one side over {w}"),
    "tape_long_runs": Phrase("longest run of trades on one side over {w}"),
    "tape_impact": Phrase("price impact of trades over {w}"),
    "tape_persistence": Phrase("persistence of signed trades over {w}"),
    "tape_gap": Phrase("price that buyers paid over sellers over {w}"),
    # book
    "book_spread": Phrase("bid-ask spread over {w}"),
    "book_spread_max": Phrase("widest bid-ask spread over {w}"),
    "book_depth": Phrase("depth over {w}"),
    "book_imbalance": Phrase("book leaning to buyers over {w}", "book leaning to sellers over {w}"),
    "book_one_sidedness": Phrase("one-sidedness of the book over {w}"),
    "book_slope": Phrase("depth close to the mid price over {w}"),
    "book_microprice": Phrase(
        "microprice above the mid price over {w}", "microprice below the mid price over {w}"
    ),
    "book_microprice_drift": Phrase("rise of the microprice over {w}", "fall of the microprice over {w}"),
    "book_ofi": Phrase(
        "order flow of buyers at the best prices over {w}",
        "order flow of sellers at the best prices over {w}",
    ),
    "book_ofi_size": Phrase("size of the order flow at the best prices over {w}"),
    "book_ofi_integrated": Phrase(
        "order flow of buyers at all levels over {w}", "order flow of sellers at all levels over {w}"
    ),
    "book_ofi_integrated_size": Phrase("size of the order flow at all levels over {w}"),
    "book_depletions": Phrase("depletions of the best prices over {w}"),
    "book_resilience": Phrase("return of depleted depth over {w}"),
    "book_locked": Phrase("locked books over {w}"),
    "book_disorder": Phrase("crossed or one-sided books over {w}"),
    "book_updates": Phrase("updates of the book over {w}"),
    # context
    "funding": Phrase("funding"),
    "funding_1w": Phrase("funding over 1 week"),
    "funding_change": Phrase("rise of funding over {w}", "fall of funding over {w}"),
    "implied_premium": Phrase("implied over realised volatility"),
    "implied_premium_against_usual": Phrase(
        "implied over realised volatility", against="against its 30 days"
    ),
    "implied_level": Phrase("implied volatility"),
    "implied_change": Phrase("rise of implied volatility over {w}", "fall of implied volatility over {w}"),
    "open_interest_level": Phrase("open interest"),
    "open_interest_change": Phrase("positions opened over {w}", "positions closed over {w}"),
    "liquidations": Phrase("liquidations over {w}"),
    "liquidation_side": Phrase("liquidations of longs over {w}", "liquidations of shorts over {w}"),
    # what is no input, but moves a margin
    "forecast_level": Phrase("correction of the forecast's level", form="unmeasured"),
    "calibration": Phrase(
        "more losses beyond the forecast of late", "fewer losses beyond the forecast of late", "unmeasured"
    ),
}
#: Bases whose window ``1m`` is a month (``features.volatility.WINDOWS``); of all others it is a minute.
MONTHLY = frozenset({"har", "return", "drawdown", "rally"})
