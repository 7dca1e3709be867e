"""What the server may be told, and what it refuses to start with."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.settings import ServingSettings

TOKEN = "t" * 16


def test_the_defaults_serve_this_machine() -> None:
    settings = ServingSettings()
    assert (settings.host, settings.port, settings.clock) == ("127.0.0.1", 3000, "wall")
    assert settings.window_bars == 750 * 24
    assert settings.model_folder == Path("foremargin.db-models")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4"])
def test_beyond_this_machine_both_tokens_are_needed(host: str) -> None:
    for tokens in ({}, {"read_tokens": (TOKEN,)}, {"ingest_tokens": (TOKEN,)}):
        with pytest.raises(ValidationError, match="reachable from other machines"):
            ServingSettings(host=host, **tokens)
    assert not ServingSettings(host=host, read_tokens=(TOKEN,), ingest_tokens=(TOKEN,)).on_loopback


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("host", "localhost", "IP address"),
        ("port", 70000, "65535"),
        ("database", "mysql://x", "sqlite or postgresql"),
        ("database", "what", "not a URL"),
        ("symbols", ("A", "A"), "name each once"),
        ("clock", "sundial", "wall"),
        ("body_limit_bytes", 10 * 1024 * 1024, "less than or equal"),
        ("read_tokens", ("short",), "16 characters"),
        ("decision_tick_s", float("nan"), "finite"),
        ("catch_up_bars", 0, "greater than or equal"),
        ("finer_interval_s", 3600, "divides the other into two or more"),
        ("finer_interval_s", 7, "divides the other"),
        ("finer_interval_s", 90, "at most 60, or whole minutes"),
        ("trade_tolerance_s", -1, "greater than or equal"),
        ("colour", "red", "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServingSettings(**{name: value})


def test_variables_set_what_the_worker_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMARGIN_SERVING__INTERVAL_S", "900")
    monkeypatch.setenv("FOREMARGIN_SERVING__DATABASE", "sqlite:////data/x.db")
    monkeypatch.setenv("FOREMARGIN_SERVING__READ_TOKENS", f'["{TOKEN}"]')
    settings = ServingSettings()
    assert settings.interval.total_seconds() == 900
    assert settings.model_folder == Path("/data/x.db-models")
    assert settings.read_tokens[0].get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)
