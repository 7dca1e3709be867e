"""``Trades``: single trades of one symbol as arrays, oldest first.

Times in nanoseconds since 1970 UTC, prices in quote currency, sizes in base currency; ``buy`` is true where
the aggressor (taker) bought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Trades:
    """Trades of one symbol; arrays of one length. Nothing is checked here but lengths and types.

    Attributes:
        time_ns: int64, nanoseconds since 1970 UTC.
        price: float64, quote currency.
        size: float64, base currency.
        buy: bool, whether the aggressor bought.
        id: int64; None where the source gives none.
        count: how many single trades each row stands for, int64 (Binance's aggTrades); None: one each.

    Raises ``ValueError`` where lengths or types differ from these.
    """

    time_ns: Whole
    price: Array
    size: Array
    buy: NDArray[np.bool_]
    id: Whole | None = None
    count: Whole | None = None

    def __post_init__(self) -> None:
        wanted = {"time_ns": "int64", "price": "float64", "size": "float64", "buy": "bool"}
        for name in ("id", "count"):
            if getattr(self, name) is not None:
                wanted[name] = "int64"
        for name, kind in wanted.items():
            array = getattr(self, name)
            if array.dtype != kind or array.shape != self.time_ns.shape or array.ndim != 1:
                raise ValueError(
                    f"trades: {name} is {array.dtype} of shape {array.shape}, and must be {kind} of shape "
                    f"{self.time_ns.shape}; give arrays of one length"
                )

    def __len__(self) -> int:
        return len(self.time_ns)

    def rows(self, which: slice | NDArray[np.bool_] | Whole) -> Trades:
        """These rows: a slice, a mask or row numbers."""
        return Trades(
            self.time_ns[which],
            self.price[which],
            self.size[which],
            self.buy[which],
            None if self.id is None else self.id[which],
            None if self.count is None else self.count[which],
        )

    @classmethod
    def joined(cls, parts: Sequence[Trades]) -> Trades:
        """One after the other. Raises ``ValueError`` where some have ids or counts and others have none."""
        if not parts:
            raise ValueError("no trades given; give at least one part")

        def whole(name: str) -> Whole | None:
            arrays = [getattr(part, name) for part in parts]
            if any(a is None for a in arrays) and not all(a is None for a in arrays):
                raise ValueError(f"some trades have {name} and others have not; join trades of one source")
            return None if arrays[0] is None else np.concatenate(arrays)

        return cls(
            np.concatenate([p.time_ns for p in parts]),
            np.concatenate([p.price for p in parts]),
            np.concatenate([p.size for p in parts]),
            np.concatenate([p.buy for p in parts]),
            whole("id"),
            whole("count"),
        )
