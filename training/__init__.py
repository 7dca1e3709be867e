"""How models are made and chosen: dataset, splits, backtest, evaluation, tracking, promotion, nightly."""
