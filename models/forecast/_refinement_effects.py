"""What the inputs of a correction add to a forecast's ln ES, beside what they add to the uncorrected one.

The correction is a sum of terms, one an input, so each is an effect as it stands:

    effect_i = strength term_i x (c held within its bounds / c)

Terms are of inputs less their means, so that the average hour is corrected by nothing and the baseline stays.
What the uncorrected forecast's own level adds is told as the input ``LEVEL``.
"""

from __future__ import annotations

import numpy as np

from features.pipeline import FeatureFrame
from models.explanations import Contributions
from models.forecast._refinement import LEVEL, MOST, Refinement, Rows
from models.forecast.base import TailForecast


def corrected(
    base: Contributions, refinement: Refinement, features: FeatureFrame, forecast: TailForecast
) -> Contributions:
    """Contributions to the corrected forecast.

    Args:
        base: those to the uncorrected one.
        refinement: the correction.
        features: what both are made from.
        forecast: the uncorrected one, of the rows of ``base``.

    Scores of inputs that the uncorrected forecast does not have are against the moments of their step.
    """
    rows = Rows.of(features, forecast)
    used = [name for steps in refinement.steps for step in steps for name in step.inputs]
    inputs = tuple(dict.fromkeys((*base.inputs, *used)))
    place = {name: i for i, name in enumerate(inputs)}
    values = np.full((len(base.rows), len(inputs)), np.nan)
    scores, effects = values.copy(), np.zeros((*base.baseline.shape, len(inputs)))
    own = [place[name] for name in base.inputs]
    values[:, own], scores[:, own], effects[..., own] = base.values, base.scores, base.effects
    for h, horizon in enumerate(forecast.horizons):
        added = np.zeros((len(base.rows), len(inputs)))
        for step in refinement.steps[h]:
            at = [place[name] for name in step.inputs]
            added[:, at] += refinement.terms(step, rows, h)
            told = rows.values(step.inputs, h)
            for i, name in enumerate(step.inputs):
                # The level differs by horizon, and has no value of its own.
                if name not in base.inputs and name != LEVEL:
                    values[:, place[name]] = told[:, i]
                    scores[:, place[name]] = (told[:, i] - step.mean[i]) / step.deviation[i]
        total = added.sum(axis=1)
        held = np.divide(np.clip(total, -MOST, MOST), total, out=np.ones_like(total), where=total != 0)
        for cell, asked in enumerate(base.cells):
            if asked.horizon == horizon:
                effects[:, cell] += refinement.settings.strength * added * held[:, np.newaxis]
    return Contributions(base.rows, base.cells, inputs, values, scores, base.baseline, effects)
