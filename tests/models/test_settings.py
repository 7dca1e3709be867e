"""Settings: file, variables, arguments, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.settings import MarginSettings, SettingsError, in_words


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "foremargin.toml"


def test_defaults_stand_without_a_file(settings_file: Path) -> None:
    assert not settings_file.exists()
    margin = MarginSettings()
    assert (margin.initial.horizon_s, margin.maintenance.horizon_s) == (14400, 3600)
    assert (margin.initial.level, margin.maintenance.level) == (0.99, 0.99)


def test_a_variable_overrides_the_file_and_an_argument_overrides_both(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.write_text("[margin.initial]\nhorizon_s = 28800\nlevel = 0.995\n", encoding="utf-8")
    assert MarginSettings().initial.horizon_s == 28800
    monkeypatch.setenv("FOREMARGIN_MARGIN__INITIAL__HORIZON_S", "7200")
    assert MarginSettings().initial.horizon_s == 7200
    assert MarginSettings().initial.level == 0.995
    assert MarginSettings(initial={"horizon_s": 3600}).initial.horizon_s == 3600  # type: ignore[arg-type]


def test_the_safety_limits_are_read_from_the_file(settings_file: Path) -> None:
    settings_file.write_text("[margin.limits]\nfloor_scale = 0.25\n", encoding="utf-8")
    assert MarginSettings().limits.floor_scale == 0.25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[margin]\ninital = 1\n", "inital"),
        ("[margin.limits]\nflor_scale = 0.5\n", "flor_scale"),
        ("[margin.limits]\nfloor_scale = -1\n", "floor_scale"),
        ("[margin.initial]\nhorizon_s = 60\n", "maintenance.horizon_s 3600"),
        ("[margin.initial]\nhorizon_s = nan\n", "horizon_s"),
        ("[margin.base_rates.BTCUSDT]\ninitial = 0.05\nmaintenance = 0.1\n", "base_rates.BTCUSDT"),
        ("[margin.default_base_rate]\ninitial = 0.05\n", "default_base_rate"),
    ],
)
def test_a_bad_value_is_refused_by_name(settings_file: Path, text: str, words: str) -> None:
    settings_file.write_text(text, encoding="utf-8")
    with pytest.raises(ValidationError, match=words):
        MarginSettings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[margin.limits]\nfloor_of_base = -0.1\n", ["floor_of_base is -0.1", "at least 0", "correct it in"]),
        ("[margin.limits]\ncap_rate = 1.5\n", ["cap_rate is 1.5", "at most 1", "[margin.limits]"]),
        ("[margin.limits]\ncap_multiplier = -3\n", ["cap_multiplier is -3", "at least 1"]),
        ("[margin.limits]\nup_limit_1h = inf\n", ["up_limit_1h is inf", "finite"]),
        (
            "[margin.limits]\nup_limit_1h = 4.5\n",
            ["up_limit_1h is 4.5", "at most up_limit_24h, which is 4.0"],
        ),
        ("[margin.limits]\nband_strikes = 2.5\n", ["band_strikes is 2.5", "correct it"]),
        ("[margin.limits]\ncap_rate = 'high'\n", ["limits.cap_rate is 'high'", "valid number", "correct it"]),
        ("[margin.limits]\ncap_rate = true\n", ["cap_rate is True", "must be a number", "correct it"]),
        (
            "[margin.limits]\nflor_scale = 0.5\n",
            ["no key flor_scale", "did you mean floor_scale", "leave it"],
        ),
        ("[margin.initial]\nhorizons = 5\n", ["[margin.initial] has no key", "['horizon_s', 'level']"]),
        ("[margin]\nlimit = 5\n", ["[margin] has no key limit", "did you mean limits"]),
        ("[margin]\nlimits = 5\n", ["[margin] limits is 5", "correct it"]),
    ],
)
def test_a_refusal_names_field_value_bound_and_remedy(
    settings_file: Path, text: str, words: list[str]
) -> None:
    settings_file.write_text(text, encoding="utf-8")
    with pytest.raises(ValidationError) as caught:
        MarginSettings()
    told = in_words(caught.value, MarginSettings)
    assert "\n" not in told
    for word in words:
        assert word in told


def test_unknown_tables_and_broken_files_are_refused(settings_file: Path) -> None:
    settings_file.write_text("[magrin]\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"magrin.*margin"):
        MarginSettings()
    settings_file.write_text("[margin\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="not valid TOML"):
        MarginSettings()


def test_a_misspelt_variable_is_refused(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings_file.exists()
    monkeypatch.setenv("FOREMARGIN_MARGIN__INITAL__LEVEL", "0.99")
    with pytest.raises(SettingsError, match="INITAL"):
        MarginSettings()


def test_a_named_file_must_exist(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMARGIN_SETTINGS", str(settings_file))
    with pytest.raises(SettingsError, match="does not exist"):
        MarginSettings()
