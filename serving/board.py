"""The answers that readers get: what was last published, in memory, replaced as a whole.

A reader takes one reference and sees one version; the loop puts the next version beside it and swaps. Answers
are encoded when they are published, not when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from models.margin.types import Decision
from serving.errors import UnknownSymbolError
from serving.outlook import Forecast

Answer = dict[str, Any]


def utc_text(time_s: float | None) -> str | None:
    """A time as ISO 8601 in UTC; whole seconds where it is one."""
    if time_s is None:
        return None
    exact = "seconds" if float(time_s).is_integer() else "milliseconds"
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec=exact).replace("+00:00", "Z")


def answers(
    symbol: str,
    decision: Decision,
    forecast: Forecast | None,
    regime: Mapping[str, float],
    explanation: list[Answer] | None = None,
    known: Mapping[str, Any] | None = None,
) -> list[Answer]:
    """The four answers of a decision, one a side and kind.

    ``forecast`` is what the answering rung rests on; below the rules rung there is none, and VaR and ES are
    empty. Rates are fractions of notional, VaR and ES log losses over the horizon. ``explanation`` is the one
    of ``serving.explain``, an entry a value, None where nothing is explained. ``known`` is that of
    ``serving.inputs.Known`` where the champion answers; of what is missing the families are told.
    ``overrides`` are the orders that the decision obeyed; the trace says what each did.
    """
    content = decision.to_json(with_inputs=False)
    shared = {
        "decision_time": utc_text(decision.bar_close_s),
        "decided_at": utc_text(decision.decided_at_s),
        "valid_until": utc_text(decision.valid_until_s),
        "rung": decision.rung,
        "mode": decision.mode,
        "model_version": decision.model_version,
        "regime": dict(regime),
        "finer_until": None if known is None else utc_text(known["finer_until_s"]),
        "missing_inputs": [] if known is None else sorted(known["missing"]),
        "overrides": [
            {
                "id": o.id,
                "kind": o.kind,
                "multiplier": o.multiplier,
                "rung": o.rung,
                "reason": o.reason,
                "expires_at": utc_text(o.expires_s),
            }
            for o in decision.inputs.overrides.orders
        ],
    }
    tails = {} if forecast is None else {side: forecast.by_horizon(side) for side in ("long", "short")}
    reasons: dict[tuple[str, str], Answer] = {}
    for entry in explanation or []:
        told = {name: entry[name] for name in ("against", "average_rate", "reasons")}
        reasons[entry["side"], entry["kind"]] = told
    return [
        {
            "symbol": symbol,
            "side": value["side"],
            "kind": value["kind"],
            **shared,
            "base_rate": value["base_rate"],
            "required_rate": value["required_rate"],
            "served_rate": value["served_rate"],
            "multiplier": value["multiplier"],
            "tail": tails.get(value["side"], []),
            "explanation": reasons.get((value["side"], value["kind"])),
            "rules": value["rules"],
            "trace": [
                t
                for t in content["traces"]
                if t["side"] in (None, value["side"]) and t["kind"] in (None, value["kind"])
            ],
        }
        for value in content["values"]
    ]


def identified(answers: Iterable[Answer], symbol: str, seq: int, chain_hash: str | None) -> list[Answer]:
    """The answers with their decision's id, which ``python -m serving audit`` takes, and its hash: None where
    it is older than the chain."""
    own = {"decision": f"{symbol}/{seq}", "hash": chain_hash}
    return [{**answer, **own} for answer in answers]


@dataclass(frozen=True)
class Board:
    """One published version: the answers by symbol, and each symbol's as JSON text."""

    version: int = 0
    values: Mapping[str, list[Answer]] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def with_answers(self, version: int, changed: Mapping[str, list[Answer]]) -> Board:
        """The next version: these symbols' answers replaced or added."""
        return Board(
            version,
            {**self.values, **changed},
            {**self.texts, **{symbol: _items(values) for symbol, values in changed.items()}},
        )

    def text(self, symbols: Iterable[str] | None = None) -> bytes:
        """The answer body for these symbols (None: all). Raises ``UnknownSymbolError``."""
        if symbols is None:
            parts = list(self.texts.values())
        else:
            parts = []
            for symbol in symbols:
                self._known(symbol)
                parts.append(self.texts[symbol])
        return b'{"version":%d,"multipliers":[%s]}' % (self.version, b",".join(parts))

    def select(
        self, symbols: Iterable[str] | None = None, side: str | None = None, kind: str | None = None
    ) -> bytes:
        """The answer body of one side or kind. Raises ``UnknownSymbolError``."""
        if side is None and kind is None:
            return self.text(symbols)
        chosen: list[Answer] = []
        for symbol in self.values if symbols is None else symbols:
            self._known(symbol)
            chosen += [
                v for v in self.values[symbol] if side in (None, v["side"]) and kind in (None, v["kind"])
            ]
        return b'{"version":%d,"multipliers":[%s]}' % (self.version, _items(chosen))

    def _known(self, symbol: str) -> None:
        if symbol not in self.values:
            some = ", ".join(list(self.values)[:10]) or "none yet"
            raise UnknownSymbolError(
                f"no contract {symbol!r} here", f"ask for one of: {some}", field="symbols", value=symbol
            )


def _items(values: list[Answer]) -> bytes:
    return json.dumps(values, allow_nan=False, separators=(",", ":"))[1:-1].encode()
