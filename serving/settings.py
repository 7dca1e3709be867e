"""``[serving]``: where the server listens, what it stores, which feed it follows and how often it looks.

>>> ServingSettings(port=3001).port
3001
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, FiniteFloat, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from models.settings import Section

#: Larger bodies are refused before they are read to the end; 10 MB must never be accepted.
LARGEST_BODY_LIMIT = 9 * 1024 * 1024
#: Who gives an order: a name that is the same in every log.
IDENTITY_PATTERN = r"[A-Za-z0-9._@-]{1,64}"


class ServingSettings(Section):
    """Settings of the server. Times ending in ``_s`` are seconds."""

    model_config = SettingsConfigDict(env_prefix="FOREMARGIN_SERVING__")
    table = "serving"

    #: An IP address, since that is what BentoML binds.
    host: str = "127.0.0.1"
    port: int = Field(3000, ge=1, le=65535)
    #: An SQLAlchemy URL. A relative SQLite file lies in the working directory.
    database: str = "sqlite:///foremargin.db"
    #: Bar length of the feed, and so how often a contract is decided.
    interval_s: int = Field(3600, ge=1, le=86400)
    #: Bar length beneath the decisions, of what ``POST /v1/trades`` and ``/v1/book`` bring and of finer bars
    #: that are posted. None: nothing finer is taken.
    finer_interval_s: int | None = Field(None, ge=1)
    #: Trades and snapshots may come this much out of order, and a decision waits this long after its close
    #: for what is finer.
    trade_tolerance_s: FiniteFloat = Field(2.0, ge=0, le=60)
    #: Finer bars kept in memory: what the champion's features look back at them, and beyond it the time that
    #: a calibration has to make up for after a start.
    finer_history_days: int = Field(30, ge=1)
    #: The feed that is decided on; bars of other sources are stored beside it.
    source: str = Field("feed", min_length=1, max_length=64)
    #: Sources of the same contracts that are heard beside it (rule 7): where they disagree, the rules rung
    #: rests on the median. Two or more, since one and the feed have no majority.
    other_sources: tuple[str, ...] = ()
    #: The contracts, the leader first. Empty: every symbol that came with bars, in the order of its arrival.
    symbols: tuple[str, ...] = ()
    #: ``wall``: now is the time of day. ``bars``: now is the close of the newest bar, for replay and demos.
    clock: Literal["wall", "bars"] = "wall"
    #: How often the silence of a feed is looked at, where no bar arrives.
    decision_tick_s: FiniteFloat = Field(10.0, ge=0.1, le=600)
    #: How often the registry is asked for its champion.
    model_poll_s: FiniteFloat = Field(30.0, ge=0.1, le=3600)
    #: How long the first bar after a start waits for the champion. Answers do not wait: they stand in the
    #: store.
    model_wait_s: FiniteFloat = Field(30.0, ge=0, le=600)
    #: Where champions are kept, so that they outlive their original; default: beside the database.
    model_cache: Path | None = None
    #: Closes that came while nobody decided (an outage) are decided in order, the newest this many of them.
    catch_up_bars: int = Field(48, ge=1)
    #: How long open positions (``POST /v1/positions``) count for the impact budget (rule 18).
    positions_valid_s: FiniteFloat = Field(3600.0, gt=0, le=366 * 86400)
    #: Which decisions of the champion say why they ask what they ask: all, those whose requirement moved by
    #: more than 5 % since the contract's last of a champion, or none.
    explain: Literal["always", "moved", "never"] = "always"
    #: Bars kept in memory. The rules rung looks back 740 days from the start of the week (see
    #: ``rules_rung``).
    history_days: int = Field(750, ge=1)
    body_limit_bytes: int = Field(4 * 1024 * 1024, ge=1024, le=LARGEST_BODY_LIMIT)
    #: Bearer tokens. ``read`` opens the answers, ``ingest`` takes bars (and opens the answers), ``override``
    #: gives orders (and opens the answers): each belongs to one person, by name.
    read_tokens: tuple[SecretStr, ...] = ()
    ingest_tokens: tuple[SecretStr, ...] = ()
    override_tokens: dict[str, SecretStr] = Field(default_factory=dict)
    #: Whether an override takes effect only when a second person has confirmed it. A kill switch takes effect
    #: at once, and needs the second person for its end.
    two_person: bool = False
    #: The longest that an override may last.
    override_longest_s: FiniteFloat = Field(7 * 86400.0, gt=0, le=366 * 86400)

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"host is {value!r}; give an IP address, 127.0.0.1 say") from None
        return value

    @field_validator("database")
    @classmethod
    def _database_is_a_url(cls, value: str) -> str:
        try:
            backend = make_url(value).get_backend_name()
        except ArgumentError:
            raise ValueError(
                "database is not a URL; write sqlite:///FILE or postgresql+psycopg://..."
            ) from None
        if backend not in {"sqlite", "postgresql"}:
            raise ValueError(f"database is a {backend} URL; use sqlite or postgresql+psycopg")
        return value

    @field_validator("symbols")
    @classmethod
    def _symbols_are_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(value):
            raise ValueError(f"symbols are {list(value)}; name each once, none empty")
        return value

    @model_validator(mode="after")
    def _other_sources_are_others(self) -> Self:
        others = self.other_sources
        if len({*others, self.source}) <= len(others) or not all(0 < len(s) <= 64 for s in others):
            raise ValueError(
                f"other_sources are {list(others)} and source is {self.source!r}; name each source once, "
                f"with 1 to 64 characters, and not the one that is decided on"
            )
        return self

    @field_validator("read_tokens", "ingest_tokens")
    @classmethod
    def _tokens_are_long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(t.get_secret_value()) < 16 for t in value):
            raise ValueError("a token has fewer than 16 characters; make one with `openssl rand -hex 24`")
        return value

    @field_validator("override_tokens")
    @classmethod
    def _identities_are_persons(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for who, token in value.items():
            if not re.fullmatch(IDENTITY_PATTERN, who) or who.casefold() == "server":
                raise ValueError(
                    f"override_tokens names {who!r}; give at most 64 letters, digits and ._@-, and not server"
                )
            if len(token.get_secret_value()) < 16:
                raise ValueError(
                    f"the override token of {who} has fewer than 16 characters; make one with "
                    f"`openssl rand -hex 24`"
                )
        if len({who.casefold() for who in value}) != len(value):
            raise ValueError(f"override_tokens names somebody twice: {sorted(value)}; give each person one")
        return value

    @model_validator(mode="after")
    def _the_world_needs_tokens(self) -> Self:
        tokens = {name: getattr(self, name) for name in ("read_tokens", "ingest_tokens", "override_tokens")}
        missing = [name for name, given in tokens.items() if not given]
        if missing and not self.on_loopback:
            raise ValueError(
                f"host {self.host} is reachable from other machines, and {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} empty; set all of {', '.join(tokens)}, "
                f"or bind 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _an_order_says_whose_it_is(self) -> Self:
        orders = [t.get_secret_value() for t in self.override_tokens.values()]
        others = [t.get_secret_value() for t in (*self.read_tokens, *self.ingest_tokens)]
        if len(set(orders)) != len(orders) or set(orders) & set(others):
            raise ValueError(
                "a token of override_tokens is somebody else's too, or a read or ingest token; "
                "give each person a token of their own"
            )
        if self.two_person and len(orders) == 1:
            raise ValueError(
                f"two_person is on, and override_tokens names only {', '.join(self.override_tokens)}: nobody "
                f"could confirm; name a second person, or turn two_person off"
            )
        return self

    @model_validator(mode="after")
    def _finer_bars_fit(self) -> Self:
        fine_s = self.finer_interval_s
        if fine_s is None:
            return self
        if self.interval_s % fine_s or fine_s == self.interval_s:
            raise ValueError(
                f"finer_interval_s is {fine_s} and interval_s {self.interval_s}; give a finer interval that "
                f"divides the other into two or more"
            )
        if fine_s > 60 and fine_s % 60:
            raise ValueError(f"finer_interval_s is {fine_s}; give at most 60, or whole minutes")
        return self

    @property
    def on_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def interval(self) -> pd.Timedelta:
        return pd.Timedelta(seconds=self.interval_s)

    @property
    def finer_interval(self) -> pd.Timedelta | None:
        return None if self.finer_interval_s is None else pd.Timedelta(seconds=self.finer_interval_s)

    @property
    def window_bars(self) -> int:
        """How many bars are kept in memory."""
        return max(1, self.history_days * 86400 // self.interval_s)

    @property
    def model_folder(self) -> Path:
        """Where champions are kept."""
        if self.model_cache is not None:
            return self.model_cache
        url = make_url(self.database)
        file = url.database if url.get_backend_name() == "sqlite" else None
        return Path(f"{file}-models" if file and file != ":memory:" else "foremargin.db-models")
