"""Bars from trades: ``Trades`` (arrays of single trades) in, ``TradeBars`` makes the bars of one symbol.

    bars = TradeBars(pd.Timedelta("1min"))
    closed = bars.add(trades)            # the bars that these trades closed, maybe none
    closed = bars.close_until(now_ns)    # those that the clock closed, flat where nothing traded
    closed = bars.finish()               # the bar still open, as far as it has come
    bars = TradeBars.from_json(bars.to_json())   # plain JSON values; the next bars are the same to the bit

``closed`` is a table: arrays of one length by name, ``open_time_ns`` (int64, UTC) and the columns of the bar
contract and of group ``trades`` in ``features.columns`` (float64). ``bar_table(closed)`` is the same as a bar
table with ``open_time``. Bars do not depend on how the trades were cut: one by one or all at once, the bits
are the same.

``add`` wants trades in order of time, and of id where times are equal: a feed whose trades may come out of
order is sorted by its reader. Values are checked by ``features.trades.checks``: ``check_values`` looks at
each trade by itself, ``TradeChecks`` at how each follows the one before.

A trade belongs to the bar in whose [open, open + interval) its time lies. The side of a trade is that of the
aggressor (taker): ``buy`` is true where he bought. Sizes are in base, prices in quote currency.
"""
