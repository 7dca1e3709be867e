"""The network of ``network``: what it computes, and how its members are trained together.

Weights are stacked over members, so that one batched product does a layer of all of them. Data are put on the
device once and stay there; a step draws its rows there too, has a fixed shape, and on a GPU is compiled into
one graph. Products may run in bfloat16; the heads and FZ0, which divide and take logarithms, are in float32.

Under ``torchrun`` each process trains its share of the members, and all end with the whole ensemble: members
share nothing until they are averaged, so nothing is sent before the end.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.functional import dropout, silu, softplus

#: exp(+-3) on the EWMA forecast is further than any good one goes; it keeps a strange input from overflowing.
_LOG_FACTOR_BOUND = 3.0
#: A tail whose levels coincide (few distinct losses) still needs a finite start.
_LEAST_RATIO = 1e-3
_LAYERS = 3
#: What of the weights is not learned.
CONSTANTS = ("mirrored", "seen")


class Settings(BaseModel):
    """Of the ensemble and its training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(8, ge=1)
    hidden: int = Field(64, ge=1)
    #: Share of members that see a long in the mirror of a short; the others see the same for both sides and
    #: must learn each from its own losses. They err differently, and their mean is better than either.
    mirrored_share: float = Field(0.5, ge=0, le=1)
    #: Share of the inputs beyond the core that each member sees: members that see less err more differently.
    seen_share: float = Field(0.5, ge=0, le=1)
    #: Share of hidden units that a training step leaves out. What the tail says is little and noisy: without,
    #: a day's forecasts are confident and wrong.
    dropout: float = Field(0.2, ge=0, lt=1)
    steps: int = Field(800, ge=1)
    #: Fewer steps where each member would see each row more often than this.
    most_passes: float = Field(5.0, gt=0)
    #: Rows a member and step, each seen from both sides.
    batch_rows: int = Field(1024, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    #: Standardised inputs are held within this many deviations.
    input_bound: float = Field(5.0, gt=0)
    #: Matured rows that a fit needs, all symbols together.
    min_rows: int = Field(2000, ge=500)
    seed: int = 1
    #: Where it trains; ``auto`` is a GPU where there is one. Forecasts are made on the CPU, alike everywhere.
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: Of the matrix products in training; ``auto`` is bfloat16 on a GPU.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    #: Whether a step is compiled first, which takes about a minute; ``auto`` does on a GPU.
    compiled: Literal["auto", "yes", "no"] = "auto"


@dataclass(frozen=True)
class Shape:
    """What does not change while it learns. ``start`` is (VaR or ES, horizon, level), the pooled tail of both
    sides that o = 0 means; ``order`` and ``sign`` (input,) mirror the inputs of a short into those of a
    long; the first ``core`` inputs are seen by every member."""

    start: Any
    order: Any
    sign: Any
    core: int

    @classmethod
    def of(
        cls, start: NDArray[np.float64], order: NDArray[np.intp], sign: NDArray[np.float64], core: int
    ) -> Shape:
        return cls(
            torch.as_tensor(start, dtype=torch.float32),
            torch.as_tensor(order),
            torch.as_tensor(sign, dtype=torch.float32),
            core,
        )

    def to(self, device: Any) -> Shape:
        return Shape(self.start.to(device), self.order.to(device), self.sign.to(device), self.core)

    @property
    def outputs(self) -> int:
        return int(self.start.numel())


def first_weights(settings: Settings, inputs: int, shape: Shape, generator: Any) -> dict[str, Any]:
    """Stacked over members: He-scaled hidden layers, zero biases and last layer, and ``CONSTANTS``.

    The first bias is each side's own: what the mirror does not say of a fall and a rise. ``mirrored``,
    (member, 1, 1), is 1 where a member sees a long in the mirror. ``seen``, (member, input, 1), is 1 where it
    sees an input: all see the core; of the others, a member with the mirror sees as many as fall to it at
    random (an input and what it becomes in the mirror go together), and one without it sees all.
    """
    s = settings
    sizes = ((inputs, s.hidden), (s.hidden, s.hidden), (s.hidden, shape.outputs))
    weights: dict[str, Any] = {}
    for layer, (inward, outward) in enumerate(sizes):
        scale = 0.0 if layer == _LAYERS - 1 else (2 / inward) ** 0.5
        weights[f"weight_{layer}"] = scale * torch.randn((s.members, inward, outward), generator=generator)
        weights[f"bias_{layer}"] = torch.zeros((s.members, 2 if layer == 0 else 1, outward))
    # Spread evenly, so that any share of the members has both kinds.
    counted = torch.floor(torch.arange(s.members + 1) * s.mirrored_share + 1e-9).diff()
    weights["mirrored"] = counted.reshape(-1, 1, 1)
    seen = (torch.rand((s.members, inputs), generator=generator) < s.seen_share).float()
    seen[:, : shape.core] = 1.0
    seen = torch.maximum(seen, seen[:, shape.order]).unsqueeze(-1)
    weights["seen"] = torch.maximum(seen, 1 - weights["mirrored"])
    return weights


def tails(weights: dict[str, Any], x: Any, shape: Shape, dropped: float = 0.0) -> tuple[Any, Any]:
    """VaR and ES in units of the scale, each (member, row, side, horizon, level).

    Args:
        weights: of ``first_weights``.
        x: (member or 1, row, input), standardised, as the short sees them.
        shape: of the outputs.
        dropped: share of hidden units left out at random; 0 where it forecasts.
    """
    members, rows = weights["bias_0"].shape[0], x.shape[1]
    turned = x + weights["mirrored"] * (x[..., shape.order] * shape.sign - x)
    sides = torch.cat([turned, x.expand_as(turned)], dim=1)  # in the order of SIDES
    o = sides @ (weights["weight_0"] * weights["seen"]) + weights["bias_0"].repeat_interleave(rows, dim=1)
    o = dropout(silu(o), dropped, training=dropped > 0)
    o = dropout(silu(o @ weights["weight_1"] + weights["bias_1"]), dropped, training=dropped > 0)
    o = (o @ weights["weight_2"] + weights["bias_2"]).float()
    o = o.reshape(members, 2, rows, 2, *shape.start.shape[1:]).transpose(1, 2)
    start_var, start_es = shape.start
    steps = softplus(_inverse_softplus(start_var[:, 1:] / start_var[:, :-1] - 1) + o[..., 0, :, 1:])
    lowest = start_var[:, :1] * torch.exp(o[..., 0, :, :1].clamp(-_LOG_FACTOR_BOUND, _LOG_FACTOR_BOUND))
    var = torch.cat([lowest, lowest * torch.cumprod(1 + steps, dim=-1)], dim=-1)
    beyond = softplus(_inverse_softplus(start_es / start_var - 1) + o[..., 1, :, :])
    return var, var * (1 + beyond)


@contextmanager
def one_thread() -> Iterator[None]:
    """Few rows take one thread two milliseconds; threads that wait for each other on a busy machine take
    twenty times that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mean_scores(var: Any, es: Any, losses: Any, probabilities: Any) -> Any:
    """FZ0 less a constant of each member, (member,), over the losses that are known (not NaN).

    ``losses`` is (member, row, side, horizon); levels count with the root of their ``probabilities`` of a
    hit, because the rarest say the least per row.
    """
    importance = probabilities.sqrt() / probabilities.sqrt().sum()
    loss = losses.unsqueeze(-1)
    known = torch.isfinite(loss)
    beyond = torch.relu(torch.where(known, loss, 0.0) - var)
    score = beyond / (probabilities * es) + var / es + torch.log(es)
    total = torch.where(known, score * importance, 0.0).sum(dim=(1, 2, 3, 4))
    return total / known.sum(dim=(1, 2, 3, 4)).clamp(min=1)


class Trainer:
    """Members in training on one device: AdamW with a cosine schedule on ``mean_scores``.

    Args:
        settings: of the ensemble; ``members`` are trained here.
        x: (row, input) standardised, and ``losses`` (row, side, horizon), NaN where unknown.
        shape: of the outputs.
        levels: ascending.
        weights: of ``first_weights``.
    """

    def __init__(
        self,
        settings: Settings,
        x: Any,
        losses: Any,
        shape: Shape,
        levels: tuple[float, ...],
        weights: dict[str, Any],
    ) -> None:
        self.settings, self.device = settings, device_of(settings)
        on_gpu = self.device.type == "cuda"
        # Copies without gaps: the fused optimizer takes a view of every second member for one of all.
        self.weights = {
            k: w.to(self.device, copy=True, memory_format=torch.contiguous_format) for k, w in weights.items()
        }
        self._learned = [w.requires_grad_() for k, w in self.weights.items() if k not in CONSTANTS]
        self._x, self._losses, self._shape = x.to(self.device), losses.to(self.device), shape.to(self.device)
        self._probabilities = torch.tensor([1 - p for p in levels], dtype=torch.float32, device=self.device)
        self._members = next(iter(weights.values())).shape[0]
        self._half = settings.precision == "bfloat16" or (settings.precision == "auto" and on_gpu)
        # The rate is a tensor, so that a compiled step reads it rather than being compiled for each value.
        rate = torch.tensor(settings.learning_rate, device=self.device)
        self._optimizer = torch.optim.AdamW(
            self._learned, lr=rate, weight_decay=settings.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimizer, steps_of(settings, len(x))
        )
        compiled = settings.compiled == "yes" or (settings.compiled == "auto" and on_gpu)
        self._score = (
            torch.compile(self._total_score, mode="reduce-overhead") if compiled else self._total_score
        )

    def step(self) -> None:
        """Draw rows for each member, and learn from them."""
        self.learn(torch.randint(len(self._x), (self._members, self.settings.batch_rows), device=self.device))

    def learn(self, rows: Any) -> None:
        """Move the weights once by what these rows, (member, row), teach each member."""
        self._optimizer.zero_grad(set_to_none=True)
        self._score(rows).backward()
        self._hold_gradients()
        self._optimizer.step()
        self._schedule.step()

    def _hold_gradients(self) -> None:
        """No member's gradient is longer than 1: a batch with a crash in it may not undo the others."""
        gradients = [w.grad for w in self._learned]
        length = torch.stack([g.square().sum(dim=(1, 2)) for g in gradients]).sum(dim=0).sqrt()
        factor = (1 / length.clamp(min=1.0)).reshape(-1, 1, 1)
        for g in gradients:
            g.mul_(factor)

    def trained(self) -> dict[str, Any]:
        """The weights as they are, on the CPU."""
        return {k: w.detach().cpu().contiguous() for k, w in self.weights.items()}

    def _total_score(self, rows: Any) -> Any:
        """Members share nothing: the gradient of the sum is each member's own."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            var, es = tails(self.weights, self._x[rows], self._shape, self.settings.dropout)
        return mean_scores(var, es, self._losses[rows], self._probabilities).sum()


def train(settings: Settings, x: Any, losses: Any, shape: Shape, levels: tuple[float, ...]) -> dict[str, Any]:
    """Weights of all members after ``steps_of``; see ``Trainer`` for the arguments.

    A seed gives the same weights on the same device and number of processes.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    weights = first_weights(settings, x.shape[1], shape, generator)
    rank, processes = share()
    own = {k: w[rank::processes] for k, w in weights.items()}
    if settings.members < processes:
        raise ValueError(
            f"{settings.members} members cannot be shared by {processes} processes; give each process one"
        )
    with _seeded(settings.seed + rank, device_of(settings)):
        trainer = Trainer(settings, x, losses, shape, levels, own)
        for _ in range(steps_of(settings, len(x))):
            trainer.step()
    return _gathered(trainer.trained(), weights, rank, processes)


def steps_of(settings: Settings, rows: int) -> int:
    """How many steps to train on so many rows."""
    return max(1, min(settings.steps, int(settings.most_passes * rows / settings.batch_rows)))


def device_of(settings: Settings) -> Any:
    """Where to train; with several processes, each its own GPU."""
    wanted = settings.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return (
        torch.device(wanted, int(os.environ.get("LOCAL_RANK", "0")))
        if wanted == "cuda"
        else torch.device(wanted)
    )


def share() -> tuple[int, int]:
    """This process's number and how many there are, as ``torchrun`` says it: 0 of 1 without."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _gathered(own: dict[str, Any], whole: dict[str, Any], rank: int, processes: int) -> dict[str, Any]:
    """Every process's members in their places, in every process."""
    if processes == 1:
        return own
    distributed = torch.distributed
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
        # Its threads have to end before the interpreter does, or the process is aborted now and then.
        atexit.register(distributed.destroy_process_group)
    out = {}
    for key, first in whole.items():
        out[key] = torch.zeros_like(first)
        out[key][rank::processes] = own[key]
        # Each place is zero in all processes but one, so the sum is exact.
        distributed.all_reduce(out[key])
    return out


@contextmanager
def _seeded(seed: int, device: Any) -> Iterator[None]:
    """The default generators start from ``seed`` inside, and go on outside as if nothing had been drawn."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _inverse_softplus(ratio: Any) -> Any:
    return torch.log(torch.expm1(ratio.clamp(min=_LEAST_RATIO)))
