"""What the server may be told, and what it refuses to start with."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.settings import in_words
from serving.cli import main
from serving.settings import ServingSettings

TOKEN = "t" * 16


def test_the_defaults_serve_this_machine() -> None:
    settings = ServingSettings()
    assert (settings.host, settings.port, settings.clock) == ("127.0.0.1", 3000, "wall")
    assert settings.window_bars == 750 * 24
    assert settings.model_folder == Path("foremargin.db-models")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4"])
def test_beyond_this_machine_all_tokens_are_needed(host: str) -> None:
    tokens = {"read_tokens": (TOKEN,), "ingest_tokens": (TOKEN,), "override_tokens": {"ana": "a" * 16}}
    for name in tokens:
        left = {n: t for n, t in tokens.items() if n != name}
        with pytest.raises(ValidationError, match=f"reachable from other machines, and {name} is empty"):
            ServingSettings(host=host, **left)
    with pytest.raises(ValidationError, match="read_tokens and ingest_tokens and override_tokens are empty"):
        ServingSettings(host=host)
    assert not ServingSettings(host=host, **tokens).on_loopback


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"override_tokens": {"ana": "short"}}, "token of ana has fewer than 16 characters"),
        ({"override_tokens": {"an a": TOKEN}}, "names 'an a'; give at most 64 letters"),
        ({"override_tokens": {"": TOKEN}}, "names ''"),
        ({"override_tokens": {"a" * 65: TOKEN}}, "at most 64"),
        ({"override_tokens": {"Server": TOKEN}}, "and not server"),
        ({"override_tokens": {"ana": "a" * 16, "Ana": "b" * 16}}, r"somebody twice: \['Ana', 'ana'\]"),
        ({"override_tokens": {"ana": TOKEN, "ben": TOKEN}}, "somebody else's too"),
        ({"override_tokens": {"ana": TOKEN}, "read_tokens": (TOKEN,)}, "or a read or ingest token"),
        ({"override_tokens": {"ana": TOKEN}, "ingest_tokens": (TOKEN,)}, "or a read or ingest token"),
        ({"override_tokens": {"ana": TOKEN}, "two_person": True}, "names only ana: nobody could confirm"),
    ],
)
def test_an_order_must_lead_to_one_person(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServingSettings(**settings)


def test_two_persons_may_have_tokens_or_none() -> None:
    pair = {"ana": "a" * 16, "ben": "b" * 16}
    settings = ServingSettings(override_tokens=pair, two_person=True)
    assert settings.override_tokens["ben"].get_secret_value() == "b" * 16
    assert "b" * 16 not in repr(settings)
    assert ServingSettings(two_person=True).two_person


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
        ("override_longest_s", 0, "greater than 0"),
        ("override_longest_s", 367 * 86400, "less than or equal"),
        ("override_longest_s", float("nan"), "finite"),
        ("two_person", "maybe", "boolean"),
        ("colour", "red", "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServingSettings(**{name: value})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"two_persons": True}, "[serving] has no key two_persons; did you mean two_person"),
        ({"override_longest_s": -1}, "override_longest_s is -1: Input should be greater than 0; correct it"),
        ({"read_tokens": "secret-secret-secret"}, "[serving] read_tokens: Input should be a valid tuple"),
        ({"override_tokens": {"ana": 5}}, "[serving] override_tokens.ana: Input should be a valid string"),
    ],
)
def test_a_refusal_is_told_in_one_line_without_secrets(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ServingSettings(**settings)
    told = in_words(caught.value, ServingSettings)
    assert words in told
    assert "secret" not in told


def test_a_server_with_impossible_limits_does_not_start_and_leaves_the_store_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store.db"
    store.write_bytes(b"as it was")
    for name, value, told in (
        ("FLOOR_OF_BASE", "-1", "limit floor_of_base is -1.0; it must be at least 0; correct it"),
        ("UP_LIMIT_1H", "4.5", "it must be at most up_limit_24h, which is 4.0; correct it"),
        ("FLOR_OF_BASE", "1", "did you mean floor_of_base"),
    ):
        with monkeypatch.context() as variables:
            variables.setenv(f"FOREMARGIN_MARGIN__LIMITS__{name}", value)
            assert main(["serve", "--database", f"sqlite:///{store}"]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert store.read_bytes() == b"as it was"
    assert [p.name for p in tmp_path.iterdir()] == ["store.db"]


def test_variables_set_what_the_worker_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMARGIN_SERVING__INTERVAL_S", "900")
    monkeypatch.setenv("FOREMARGIN_SERVING__DATABASE", "sqlite:////data/x.db")
    monkeypatch.setenv("FOREMARGIN_SERVING__READ_TOKENS", f'["{TOKEN}"]')
    settings = ServingSettings()
    assert settings.interval.total_seconds() == 900
    assert settings.model_folder == Path("/data/x.db-models")
    assert settings.read_tokens[0].get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)
