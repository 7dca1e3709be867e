"""Whether an order makes sense beside the contracts, the limits and the other orders. Pure; each refusal
names field, value, bound and remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from models.margin.limits import Limits
from models.margin.overrides import Override, OverrideError
from serving.board import utc_text
from serving.errors import InvalidInputError, UnknownSymbolError
from serving.overrides.book import Order
from serving.overrides.requests import SetRequest

_OPPOSITE = {"floor": "cap", "cap": "floor"}


def expiry_s(request: SetRequest, now_s: float, longest_s: float) -> float:
    """When the order expires. Raises ``InvalidInputError`` where that is not said, said twice, past, or
    farther away than ``longest_s``."""
    if (request.expires_at is None) == (request.lasts_s is None):
        raise InvalidInputError(
            "give expires_at or lasts_s: every order ends by itself, at one time",
            "add expires_at (2026-03-10T12:00:00Z say) or lasts_s (3600 say), not both",
            field="expires_at",
            value=None if request.expires_at is None else request.expires_at.isoformat(),
        )
    field: str
    value: object
    if request.lasts_s is not None:
        field, value, lasts_s = "lasts_s", request.lasts_s, request.lasts_s
        end_s = now_s + lasts_s
    else:
        assert request.expires_at is not None
        end_s = request.expires_at.timestamp()
        field, value, lasts_s = "expires_at", request.expires_at.isoformat(), end_s - now_s
    if lasts_s <= 0:
        raise InvalidInputError(
            f"{field} leaves {lasts_s:.12g} s from now, {utc_text(now_s)} by the server's clock; it must "
            f"leave more than 0 s",
            "give a time in the future",
            field=field,
            value=value,
        )
    if lasts_s > longest_s:
        raise InvalidInputError(
            f"{field} is {lasts_s:.12g} s away; the longest an order may last is {longest_s:.12g} s "
            f"(until {utc_text(now_s + longest_s)})",
            "give an earlier end and renew the order in time, or raise override_longest_s in [serving]",
            field=field,
            value=value,
        )
    return end_s


def checked(request: SetRequest, draft_id: str, expires_s: float) -> Override:
    """The order as the engine takes it. Raises ``InvalidInputError``."""
    try:
        return Override(draft_id, request.kind, request.reason, expires_s, request.multiplier, request.rung)
    except OverrideError as error:
        raise InvalidInputError(
            f"{error.field} must be {error.bound}",
            "correct it and send it again",
            field=error.field,
            value=error.value,
        ) from error


def refuse_unknown_symbol(symbol: str | None, known: Collection[str]) -> None:
    """Raise ``UnknownSymbolError`` where there is no such contract."""
    if symbol is not None and symbol not in known:
        some = ", ".join(list(known)[:10]) or "none yet"
        raise UnknownSymbolError(
            f"no contract {symbol!r} here",
            f"name one of: {some}; or leave symbol out for all contracts",
            field="symbol",
            value=symbol,
        )


def refuse_contradictions(
    override: Override, symbol: str | None, limits: Limits, others: Iterable[Order]
) -> None:
    """Raise ``InvalidInputError`` where a floor or cap lies beyond what the limits allow, or a floor above a
    cap. ``others`` are the orders that stand or wait for their confirmation."""
    multiplier = override.multiplier
    if multiplier is None:
        return
    low, high = limits.floor_of_base, limits.cap_multiplier
    if not low <= multiplier <= high:
        above = multiplier > high
        bound = f"at most cap_multiplier, {high:g}" if above else f"at least floor_of_base, {low:g}"
        raise InvalidInputError(
            f"the {override.kind} is {multiplier:g} times the base rate; it must be {bound} of "
            f"[margin.limits], which every answer keeps to",
            f"give a multiplier from {low:g} to {high:g}",
            field="multiplier",
            value=multiplier,
        )
    for other in others:
        if other.override.kind != _OPPOSITE[override.kind] or not other.concerns(symbol):
            continue
        edge = other.override.multiplier or 0.0
        if (multiplier > edge) if override.kind == "floor" else (multiplier < edge):
            where = "every contract" if other.symbol is None else other.symbol
            bound = f"{'at most' if override.kind == 'floor' else 'at least'} {edge:g}"
            raise InvalidInputError(
                f"the {override.kind} is {multiplier:g} times the base rate; it must be {bound}, the "
                f"{other.override.kind} of {other.id} for {where} until {utc_text(other.override.expires_s)}",
                f"give a multiplier of {bound}, or end {other.id} first",
                field="multiplier",
                value=multiplier,
            )
