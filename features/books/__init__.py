"""Book columns of bars from snapshots of the order book: ``Books`` (arrays of snapshots) in, ``BookBars``
makes the columns of one symbol.

    bars = BookBars(pd.Timedelta("10s"), levels=10)
    closed = bars.add(books)             # rows of the bars that these snapshots closed, maybe none
    closed = bars.close_until(now_ns)    # those that the clock closed
    closed = bars.finish()               # the bar still open, as far as it has come
    bars = BookBars.from_json(bars.to_json())    # plain JSON values; the next rows are the same to the bit

``closed`` is a table: arrays of one length by name, ``open_time_ns`` (int64, UTC) and the columns of group
``book`` in ``features.columns`` (float64, NaN where not computable). ``book_table(closed)`` is the same as a
table with ``open_time``. Rows do not depend on how the snapshots were cut: one by one or all at once, the
bits are the same.

``add`` wants snapshots in order of time, equal times allowed, none before the end of the last closed bar.
Their values are checked by ``features.books.checks.check_books``, which raises ``BarError``.

A snapshot belongs to the bar in whose [open, open + interval) its time lies, and its book stands until the
next snapshot, but never longer than ``hole`` (30 s unless told): after that nothing is known until the next
one. No order flow, drift or depletion is computed over a hole. What each column is: ``features.books.bars``.
"""
