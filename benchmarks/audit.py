"""What the audit trail costs: ``python -m benchmarks.audit [--contracts 300]`` (from the repository's root).

Decides the contracts once an hour over two days (those of ``benchmarks.engine``, a limit met at each
decision) and stores them in a SQLite file. Prints milliseconds a close, the median over the closes: the JSON
text of the records, which storing them takes anyway; what the chain takes beyond it (keys in order, their
check, the hashes); all of the storing. Then milliseconds to close a day, and microseconds a decision to
verify, with and without making it again. All is time of the processor, of one core. The records are those of
the engine, without forecast and reasons.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.engine import moving, tape
from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Decision, EngineState, Overrides
from serving.audit.chain import canonical
from serving.audit.days import Head, close_day
from serving.audit.seal import Columns, seal
from serving.audit.verify import verify
from serving.audit.version import engine_version
from serving.store.decisions import NewDecision, list_contracts, save_decisions
from serving.store.engine import reading_engine, store_engine
from serving.store.migrate import migrate
from serving.store.trail import read_decisions, read_trail


def row(symbol: str, seq: int, decision: Decision, state: EngineState) -> NewDecision:
    record = {"decision": decision.to_json(), "engine": engine_version()}
    values = record["decision"]["values"]
    return NewDecision(
        symbol,
        seq,
        "bar",
        None if decision.bar_close_s is None else int(decision.bar_close_s),
        decision.decided_at_s,
        decision.rung,
        decision.mode,
        decision.model_version,
        record,
        state.to_json(),
        {},
        {"answers": values},
    )


def milliseconds(seconds: list[float]) -> float:
    return 1e3 * median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--contracts", type=int, default=300)
    count = parser.parse_args().contracts
    symbols = [f"SYM{i:03d}" for i in range(count)]
    plain, chained, stored = [], [], []
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'audit.db'}"
        engine = store_engine(url)
        migrate(engine)
        with engine.begin() as connection:
            list_contracts(connection, symbols)
        states = [EngineState()] * count
        for seq, (candidates, market, now_s) in enumerate(tape(moving), start=1):
            made = []
            for i, symbol in enumerate(symbols):
                decision, states[i] = decide(candidates, market, Limits(), Overrides(), states[i], now_s)
                made.append(row(symbol, seq, decision, states[i]))
            began = time.process_time()
            texts = [json.dumps(d.record, allow_nan=False, separators=(",", ":")) for d in made]
            plain.append(time.process_time() - began)
            began = time.process_time()
            for d in made:
                columns = Columns(
                    d.symbol, d.seq, d.decision_time, d.made_at, d.trigger, d.rung, d.mode, d.model_version
                )
                seal(columns, canonical(d.record), None)
            chained.append(time.process_time() - began)
            began = time.process_time()
            with engine.begin() as connection:
                save_decisions(connection, made)
            stored.append(time.process_time() - began)
            size = max(size, sum(map(len, texts)) // count)
        heads = [Head(symbol, 1, "0" * 64) for symbol in symbols]
        began = time.process_time()
        close_day("2026-03-10", heads, None)
        closing = time.process_time() - began
        reader = reading_engine(url)
        trail = read_trail(reader)
        took = []
        for recompute in (False, True):
            began = time.process_time()
            found = verify(trail, read_decisions(reader, trail.last_id), recompute=recompute)
            took.append((time.process_time() - began) / found.rows)
            assert not found.broken, found.defects[0]
        reader.dispose()
        engine.dispose()
    text_ms, chain_ms, stored_ms = map(milliseconds, (plain, chained, stored))
    print(f"{count} contracts, records of up to {size:,} bytes")
    print(f"text of the records       {text_ms:8.1f} ms a close")
    print(f"chain beyond it           {chain_ms - text_ms:8.1f} ms a close")
    print(f"storing, all of it        {stored_ms:8.1f} ms a close")
    print(f"closing a day             {1e3 * closing:8.1f} ms")
    print(f"verify, hashes and days   {1e6 * took[0]:8.0f} us a decision")
    print(f"verify, made again too    {1e6 * took[1]:8.0f} us a decision")


if __name__ == "__main__":
    main()
