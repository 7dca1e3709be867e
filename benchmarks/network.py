"""How fast the network's ensemble trains, against the roofs of the device measured in the same run.

    python -m benchmarks.network                               # what fits this machine
    python -m benchmarks.network --rows 25000000 --inputs 80 --batch 65536     # one data-centre GPU
    torchrun --nproc-per-node 4 -m benchmarks.network ...      # members shared by the GPUs

Rows are random numbers with the shape of features: training costs the same whatever they say. Every member
sees its own rows, each from both sides, so R rows a second are R x members x 2 passes through a network a
second. Bytes are counted as if every intermediate were written and read once, operations as three times
those of the forward products.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from models.forecast._ensemble_network import Settings, Shape, Trainer, device_of, first_weights, share

LEVELS = (0.975, 0.99, 0.999)
HORIZONS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--inputs", type=int, default=80)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--batch", type=int, default=512, help="rows a member and step")
    parser.add_argument("--steps", type=int, default=30, help="steps that are timed")
    asked = parser.parse_args()
    rank, processes = share()
    settings = Settings(members=asked.members, batch_rows=asked.batch, steps=asked.steps + 20)
    device = device_of(settings)
    own = len(range(rank, asked.members, processes))
    trainer = make_trainer(settings, asked.rows, asked.inputs, own, device)
    for _ in range(20):  # compiling, and whatever else happens once
        trainer.step()
    wait(device)
    began = time.perf_counter()
    for _ in range(asked.steps):
        trainer.step()
    wait(device)
    step_s = (time.perf_counter() - began) / asked.steps
    rows_s = asked.batch / step_s
    flop = 6 * 2 * own * asked.batch * products(asked.inputs, settings.hidden)
    moved = 3 * 2 * own * asked.batch * numbers(asked.inputs, settings.hidden) * 4
    flop_roof, byte_roof = roofs(device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    print(
        f"{name}: {own} of {asked.members} members, {asked.rows:,} rows x {asked.inputs} inputs, "
        f"batch {asked.batch}"
    )
    print(f"  {1000 * step_s:8.2f} ms a step")
    print(f"  {rows_s / 1e6:8.3f} million rows a second ({asked.rows / rows_s:,.1f} s an epoch)")
    print(f"  {rows_s * own / 1e6:8.3f} million rows x members a second, each from both sides")
    by_flop, by_bytes = flop / step_s / flop_roof, moved / step_s / byte_roof
    print(f"  {by_flop:8.1%} of the measured {flop_roof / 1e12:,.2f} TFLOP/s of a large product")
    print(f"  {by_bytes:8.1%} of the measured {byte_roof / 1e9:,.0f} GB/s of a large copy")
    nearest = "bandwidth" if by_bytes > by_flop else "arithmetic"
    near = max(by_flop, by_bytes) > 0.5
    print(f"  limited by {nearest if near else 'neither: by what lies between kernels and steps'}")
    if device.type == "cuda":
        print(f"  {torch.cuda.max_memory_allocated(device) / 2**30:8.2f} GiB of GPU memory at most")


def make_trainer(settings: Settings, rows: int, inputs: int, own: int, device: torch.device) -> Trainer:
    """A trainer on random rows that were made on the device."""
    torch.manual_seed(1)
    x = torch.randn((rows, inputs), device=device)
    losses = torch.randn((rows, 2, HORIZONS), device=device)
    start = np.array([[2.0, 2.3, 3.1], [2.3, 2.7, 3.4]])[:, np.newaxis].repeat(HORIZONS, axis=1)
    shape = Shape.of(start, np.arange(inputs), np.ones(inputs), core=inputs)
    weights = first_weights(settings, inputs, shape, torch.Generator().manual_seed(1))
    return Trainer(settings, x, losses, shape, LEVELS, {k: w[:own] for k, w in weights.items()})


def products(inputs: int, hidden: int) -> int:
    """Multiplications of one pass forward."""
    return inputs * hidden + hidden * hidden + hidden * HORIZONS * 2 * len(LEVELS)


def numbers(inputs: int, hidden: int) -> int:
    """Intermediate numbers of one pass forward: inputs, two layers before and after the nonlinearity and
    dropout, outputs and what is made of them."""
    return inputs + 2 * 3 * hidden + 8 * HORIZONS * len(LEVELS)


def roofs(device: torch.device) -> tuple[float, float]:
    """Operations a second of a large product, and bytes a second of a large copy, as they are now."""
    size = 8192 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn((size, size), device=device, dtype=kind)
    big = torch.randn((2**28 if device.type == "cuda" else 2**24,), device=device)
    target = torch.empty_like(big)
    return 2 * size**3 / seconds(lambda: a @ a, device), 2 * 4 * big.numel() / seconds(
        lambda: target.copy_(big), device
    )


def seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """The fastest of a few runs."""
    best = float("inf")
    for _ in range(times):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - began)
    return best


def wait(device: torch.device) -> None:
    """A GPU answers before it has worked; wait until it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
