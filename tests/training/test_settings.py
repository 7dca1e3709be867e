"""``[training]``: what is accepted, and how a bad value is refused."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from training.settings import TrainingSettings


def test_lists_may_be_text() -> None:
    settings = TrainingSettings(horizons="24h, 1h,4h", levels="0.99,0.975", baselines="ewma")
    assert settings.horizons == ("1h", "4h", "24h")
    assert settings.horizon_durations == tuple(pd.Timedelta(hours=h) for h in (1, 4, 24))
    assert settings.levels == (0.975, 0.99)
    assert settings.model_levels == (0.975, 0.99, 0.999)
    assert settings.baselines == ("ewma",)


def test_variables_override_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMARGIN_TRAINING__HORIZONS", "2h,30m")
    monkeypatch.setenv("FOREMARGIN_TRAINING__GATE__WORSE_T", "1.5")
    settings = TrainingSettings()
    assert settings.horizons == ("30m", "2h")
    assert settings.gate.worse_t == 1.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"horizons": ""}, "horizons are empty"),
        ({"horizons": "1h,60m"}, "repeat one"),
        ({"horizons": "1y"}, "is not understood"),
        ({"levels": "0.3"}, "above 0.5 and below 1"),
        ({"levels": "1"}, "above 0.5 and below 1"),
        ({"levels": "nan"}, "finite number"),
        ({"baselines": ""}, "baselines are empty"),
        ({"evaluation_days": 3}, "no challenger could ever be judged"),
        ({"trees": 3}, "Extra inputs"),
    ],
)
def test_bad_values_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingSettings(**given)  # type: ignore[arg-type]


def test_the_digest_follows_every_setting() -> None:
    plain = TrainingSettings()
    assert plain.digest() == TrainingSettings().digest()
    others = [
        TrainingSettings(model="ewma"),
        TrainingSettings(levels="0.99"),
        TrainingSettings(gate={"worse_t": 1.9}),
    ]
    assert len({plain.digest(), *(s.digest() for s in others)}) == 4
