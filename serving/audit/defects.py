"""What an audit finds wrong, one entry a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What is wrong, in the words that are printed.
Part = Literal[
    "row missing",  # a number of the contract's count is not there
    "out of order",  # a row whose number came before
    "hash missing",  # a row without a hash after the chain began
    "record altered",  # the record is not the one that was hashed
    "columns altered",  # a column beside the record is not the one that was hashed
    "hash altered",  # one of the three hashes is not the one that was stored
    "link broken",  # the row is whole and follows another than the one before it
    "columns differ from record",  # a column says other than the record
    "cannot be decided again",  # the record is this engine's, and cannot be read
    "decided differently",  # this engine decides otherwise on the recorded inputs
    "state differs",  # it began with another state than the decision before left
    "contract altered",  # the contract's head, state or answer is not its newest decision's
    "not in the day's root",  # a closed day binds another hash, or a row that is not there
    "day altered",  # a closed day is not whole
    "order altered",  # an event of the orders is missing or not the one that was hashed
    "root differs",  # the root that was published is not this one
]


@dataclass(frozen=True)
class Defect:
    """``symbol`` is empty where a day is wrong, ``ORDERS`` where an order is; ``seq`` is None where it is the
    contract or a day as a whole."""

    symbol: str
    seq: int | None
    part: Part
    what: str

    @property
    def place(self) -> str:
        if not self.symbol:
            return "days"
        return self.symbol if self.seq is None else f"{self.symbol}/{self.seq}"
