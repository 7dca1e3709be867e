"""The tables. Times are whole seconds since 1970 UTC where they are bar times, else float seconds.

``bars`` is what arrived or was made of what arrived, ``bar_details`` what trades and books say of a bar
beyond that, ``tape_batches`` the trades and snapshots that are not in a stored bar yet and ``tapes`` how far
each symbol has come with them, ``contracts`` what the engine remembers of each symbol together with the
answer that readers get, ``decisions`` every decision with all its inputs, ``calibrations`` where the
calibration of each model stands, ``publication`` the number of the newest answer, ``day_roots`` what binds
all decisions up to the end of a day, ``override_events`` what people ordered, ``positions`` what is open in
each contract. ``decisions``, ``day_roots`` and ``override_events`` are appended only; triggers refuse the
rest.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: SQLite counts up only a plain INTEGER primary key.
_COUNTED = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables of the store."""


class Bar(Base):
    __tablename__ = "bars"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    interval_s: Mapped[int] = mapped_column(Integer, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(64), primary_key=True)
    open_time: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    open: Mapped[float] = mapped_column(Float(53))
    high: Mapped[float] = mapped_column(Float(53))
    low: Mapped[float] = mapped_column(Float(53))
    close: Mapped[float] = mapped_column(Float(53))
    volume: Mapped[float] = mapped_column(Float(53))
    quote_volume: Mapped[float | None] = mapped_column(Float(53))
    trades: Mapped[float | None] = mapped_column(Float(53))
    taker_buy_volume: Mapped[float | None] = mapped_column(Float(53))
    taker_buy_quote_volume: Mapped[float | None] = mapped_column(Float(53))
    #: Whether the server made it, of trades or of finer bars; else it was posted.
    made: Mapped[bool] = mapped_column(Boolean, server_default=false())

    # The window is read a stretch of time at once, over all symbols.
    __table_args__ = (Index("bars_by_time", "source", "interval_s", "open_time"),)


class BarDetail(Base):
    """The columns of ``features.columns`` that trades or books give a bar."""

    __tablename__ = "bar_details"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    interval_s: Mapped[int] = mapped_column(Integer, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(64), primary_key=True)
    open_time: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    #: ``trades`` or ``book``.
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    #: Which columns the values are of (``detail_layouts``).
    layout: Mapped[int] = mapped_column(Integer)
    #: Little-endian float64, one a column; NaN where one could not be computed.
    content: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (Index("bar_details_by_time", "source", "interval_s", "open_time"),)


class DetailLayout(Base):
    """The columns of ``bar_details``: their names in order, once for all the rows that have them."""

    __tablename__ = "detail_layouts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    columns: Mapped[list[str]] = mapped_column(JSON)


class TapeBatch(Base):
    """Trades or snapshots of one symbol as they were accepted; kept until the bars that they are in are
    stored and repeats of them need not be told any more."""

    __tablename__ = "tape_batches"

    id: Mapped[int] = mapped_column(_COUNTED, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(8))
    symbol: Mapped[str] = mapped_column(String(64))
    #: The newest time in it, microseconds since 1970 UTC.
    last_us: Mapped[int] = mapped_column(BigInteger)
    #: Arrays, see ``serving.store.tapes``.
    content: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (Index("tape_batches_by_time", "kind", "symbol", "last_us"),)


class TapeState(Base):
    """How far the trades or snapshots of one symbol are in bars, as JSON (``serving.tape.Tape``)."""

    __tablename__ = "tapes"

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[dict[str, Any]] = mapped_column(JSON)


class Contract(Base):
    """One contract: its engine's state, what the loop remembers beside it, and the answer in force."""

    __tablename__ = "contracts"

    symbol: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: Order of arrival; the first is the leader.
    position: Mapped[int] = mapped_column(Integer, unique=True)
    #: How many decisions there are; the newest has this number.
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    #: Close of the newest bar that was decided on.
    decided_close: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    memory: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    published: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: Hash of the newest decision; null before the first that has one.
    head: Mapped[str | None] = mapped_column(String(64))


class DecisionRow(Base):
    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(_COUNTED, primary_key=True, autoincrement=True)
    symbol: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    #: Close of the last bar used; null where there was none.
    decision_time: Mapped[int | None] = mapped_column(BigInteger)
    made_at: Mapped[float] = mapped_column(Float(53))
    #: What asked for it: ``bar``, ``gap``, ``tick``, ``model``, ``override`` or ``start``.
    trigger: Mapped[str] = mapped_column(String(8))
    rung: Mapped[str] = mapped_column(String(16))
    mode: Mapped[str] = mapped_column(String(16))
    model_version: Mapped[str] = mapped_column(String(64))
    #: Canonical JSON (``serving.audit.chain``).
    record: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: ``serving.audit.seal.Seal``; null in decisions that are older than the chain.
    previous_hash: Mapped[str | None] = mapped_column(String(64))
    record_hash: Mapped[str | None] = mapped_column(String(64))
    hash: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (
        # Two processes that decide the same contract collide here, whatever they were doing.
        UniqueConstraint("symbol", "seq", name="one_decision_a_number"),
        # A bar is decided once, also when it is sent again or the process was killed in between.
        Index(
            "one_decision_a_bar",
            "symbol",
            "decision_time",
            unique=True,
            sqlite_where=text("trigger = 'bar'"),
            postgresql_where=text("trigger = 'bar'"),
        ),
    )


class ClosedDay(Base):
    """``serving.audit.days.DayRoot``."""

    __tablename__ = "day_roots"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    root: Mapped[str] = mapped_column(String(64))
    leaves: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class OverrideEvent(Base):
    """``serving.overrides.book.Event``."""

    __tablename__ = "override_events"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    #: The order that it is of.
    override: Mapped[str] = mapped_column(String(24))
    event: Mapped[str] = mapped_column(String(16))
    #: Who it was.
    identity: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[float] = mapped_column(Float(53))
    #: Canonical JSON (``serving.audit.chain``).
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class OpenPositions(Base):
    """What is open in a contract (``serving.positions``), as it was told last."""

    __tablename__ = "positions"

    symbol: Mapped[str] = mapped_column(String(64), primary_key=True)
    made_at: Mapped[float] = mapped_column(Float(53))
    #: ``[equity_ratio, notional]``, a bin.
    long: Mapped[list[list[float]]] = mapped_column(JSON)
    short: Mapped[list[list[float]]] = mapped_column(JSON)


class Calibration(Base):
    """``models.forecast.calibration.CalibrationState`` of one artifact, after the newest decisions."""

    __tablename__ = "calibrations"

    #: Its fingerprint (``models.artifact.ArtifactInfo``).
    artifact: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[dict[str, Any]] = mapped_column(JSON)


class Publication(Base):
    """One row: the number of the newest answer, so that whoever reads the store can tell whether it has
    it."""

    __tablename__ = "publication"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    #: The day (UTC) whose decisions come in now; null before the first that has a hash.
    day: Mapped[str | None] = mapped_column(String(10))
