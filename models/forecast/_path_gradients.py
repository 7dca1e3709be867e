"""Integrated gradients of the network's ln ES: what each input adds on the straight way from its mean.

    effect_i = x_i integral over a in [0, 1] of (d ln ES / d x_i)(a x) da,      x standardised and clipped

so that the effects sum to ln ES(x) - ln ES(0), 0 being the training mean of every input (and its mirror
image's, ``NetworkModel._moments``). An input that is missing stands at its mean, and has no effect. The
integral is taken at Gauss-Legendre nodes; what rounding and the few kinks (ES that are put in order, a
bounded factor) leave of the sum is shared out in proportion to the effects' sizes. Tests hold that rest below
a thousandth.

Source: Sundararajan, Taly, Yan (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.explanations import Array
from models.forecast._ensemble_network import Shape, tails

NODES = 8
#: Rows at once: more fit no cache and go no faster.
_ROWS = 64


def path_gradients(
    weights: dict[str, Any], x: Any, shape: Shape, places: Sequence[tuple[int, int, int]]
) -> tuple[Array, Array, float]:
    """ln ES at the mean, (cell,); effects, (row, cell, input); and the largest rest that was shared out.

    Args:
        weights: of the network.
        x: (row, input), standardised, 0 where missing.
        shape: of its outputs.
        places: horizon, side and level of each cell.
    """
    at, share = np.polynomial.legendre.leggauss(NODES)
    nodes = torch.as_tensor((at + 1) / 2, dtype=torch.float32)
    shares = torch.as_tensor(share / 2, dtype=torch.float32)
    start = _log_es(weights, torch.zeros((1, x.shape[1])), shape, places).detach().double().numpy()[0]
    parts, rest = [np.empty((0, len(places), x.shape[1]))], 0.0
    for first in range(0, len(x), _ROWS):
        rows = x[first : first + _ROWS]
        path = (nodes[:, None, None] * rows).reshape(-1, x.shape[1]).requires_grad_()
        found = _log_es(weights, path, shape, places)
        effects = np.empty((len(rows), len(places), x.shape[1]))
        for cell in range(len(places)):
            (slope,) = torch.autograd.grad(found[:, cell].sum(), path, retain_graph=True)
            mean = (slope.reshape(NODES, *rows.shape) * shares[:, None, None]).sum(dim=0)
            effects[:, cell] = (mean * rows).double().numpy()
        with torch.inference_mode():
            end = _log_es(weights, rows, shape, places).double().numpy()
        left = end - start - effects.sum(axis=-1)
        size = np.abs(effects)
        total = size.sum(axis=-1)
        # Without any effect there is nothing to share it among; then the row is at the mean.
        effects += size * np.divide(left, total, out=np.zeros_like(left), where=total > 0)[..., np.newaxis]
        rest = max(rest, float(np.abs(left).max(initial=0.0)))
        parts.append(effects)
    return start, np.concatenate(parts), rest


def _log_es(weights: dict[str, Any], x: Any, shape: Shape, places: Sequence[tuple[int, int, int]]) -> Any:
    """ln of the mean ES of the members in units of the scale, in order over the levels, (row, cell)."""
    var, es = (t.mean(dim=0) for t in tails(weights, x.unsqueeze(0), shape))
    ordered = torch.maximum(es, var).log().cummax(dim=-1).values
    return torch.stack([ordered[:, side, horizon, level] for horizon, side, level in places], dim=-1)
