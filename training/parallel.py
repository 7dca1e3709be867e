"""Jobs on one history side by side: in this process, in processes of this machine, or on a Dask cluster.

A job is small and travels; the bars do not, nor what lies beneath and beside them. Each worker reads the
market for itself, once, and refuses to work where it found other data or other code than the one who asked.
Whoever works, every job runs on one thread of BLAS and OpenMP, because sums in another order have other last
bits: the answer does not depend on who worked or on how many there were. (LightGBM's fits side by side are
each on one thread, and stay.)

This is the one module that may import joblib, for its processes; nothing of it that reads or writes pickle
files is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from features.bars import BarError
from features.sources.market import MarketSource, read_market
from models.artifact import code_version
from models.forecast.base import TailModel
from training.dataset import History

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[History, Job], Result]

#: How long to wait for a scheduler, and for its first worker.
CLUSTER_TIMEOUT_S = 30


@dataclass(frozen=True)
class Workers:
    """Who works: ``processes`` of this machine (1: this very process), or the Dask cluster at an address,
    ``tcp://host:8786`` say, whose workers have this project installed and see the bars at the same path."""

    processes: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"{self.processes} jobs cannot work; give at least 1")


IN_THIS_PROCESS = Workers()


def run_jobs(
    work: Work[Job, Result], history: History, jobs: Sequence[Job], workers: Workers
) -> Iterator[tuple[int, Result]]:
    """``(position of the job, work(history, job))`` in the order in which they are done.

    ``work`` and the jobs must be importable by name. The first job that raises ends the iteration with its
    exception. Raises ``ValueError`` where several processes are asked for a history that no folder holds, or
    where a worker finds other bars or code than ours, and ``ConnectionError`` where the cluster does not
    answer or has no workers.
    """
    if workers.cluster is not None:
        yield from _on_cluster(partial(_work_on, work, _recipe(history)), jobs, workers.cluster)
    elif workers.processes > 1 and len(jobs) > 1:
        yield from _in_processes(partial(_work_on, work, _recipe(history)), jobs, workers.processes)
    else:
        with threadpool_limits(limits=1):
            for position, job in enumerate(jobs):
                yield position, work(history, job)


def side_by_side(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: Workers
) -> Iterator[tuple[int, Result]]:
    """``(position of the job, work(job))`` in the order in which they are done, of jobs that carry all they
    need.

    For small jobs without a history: arrays travel with each of them. ``work`` must be importable by name.
    Raises as ``run_jobs`` does.
    """
    placed = partial(_placed, work)
    if workers.cluster is not None:
        yield from _on_cluster(placed, jobs, workers.cluster)
    elif workers.processes > 1 and len(jobs) > 1:
        yield from _in_processes(placed, jobs, workers.processes)
    else:
        with threadpool_limits(limits=1):
            yield from map(placed, enumerate(jobs))


def _placed(work: Callable[[Job], Result], item: tuple[int, Job]) -> tuple[int, Result]:
    position, job = item
    return position, work(job)


@dataclass(frozen=True)
class _Recipe:
    """How a worker makes the history again, and how it sees that it is the same."""

    source: MarketSource
    models: tuple[type[TailModel], ...]
    fingerprint: str
    code: str


def _recipe(history: History) -> _Recipe:
    if history.source is None:
        raise ValueError(
            "this history was not read from a folder, so no other process can read it; use 1 job"
        )
    return _Recipe(history.source, history.models, history.fingerprint, code_version())


_reading = Lock()


@lru_cache(maxsize=1)
def _read(recipe: _Recipe) -> History:
    source = recipe.source
    try:
        history = History(read_market(source), recipe.models, source)
    except BarError as error:  # cannot travel: it is made of more than its message
        raise ValueError(str(error)) from error
    if history.fingerprint != recipe.fingerprint or code_version() != recipe.code:
        raise ValueError(
            f"a worker reads data {history.fingerprint[:12]} in {source.folder} with code {code_version()}, "
            f"and was asked for {recipe.fingerprint[:12]} with {recipe.code}; give all workers the same "
            f"files and version, and do not change them meanwhile"
        )
    _ = history.static_features  # now, or the first job's time would contain theirs
    threadpool_limits(limits=1)  # for as long as the worker lives
    return history


def _work_on(work: Work[Job, Result], recipe: _Recipe, item: tuple[int, Job]) -> tuple[int, Result]:
    with _reading:  # a Dask worker has several threads
        history = _read(recipe)
    position, job = item
    return position, work(history, job)


def _in_processes(
    work: Callable[[tuple[int, Job]], tuple[int, Result]], jobs: Sequence[Job], processes: int
) -> Iterator[tuple[int, Result]]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=processes, batch_size=1, return_as="generator_unordered")
        yield from parallel(delayed(work)(item) for item in enumerate(jobs))


def _on_cluster(
    work: Callable[[tuple[int, Job]], tuple[int, Result]], jobs: Sequence[Job], address: str
) -> Iterator[tuple[int, Result]]:
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=CLUSTER_TIMEOUT_S)
        client.wait_for_workers(1, timeout=CLUSTER_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no Dask cluster with a worker answers at {address} ({error}); start one with `dask scheduler` "
            f"and `dask worker {address}`, or leave --cluster out to work on this machine"
        ) from error
    with client:
        # Not pure: a job is never taken for one of an earlier command on the same cluster.
        for future in distributed.as_completed(client.map(work, list(enumerate(jobs)), pure=False)):
            yield future.result()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ValueError(
            "a cluster needs the extra `cluster`, which is not installed; "
            "pip install --constraint constraints.txt --editable '.[cluster]', or leave --cluster out"
        ) from error
    return distributed
