"""What the market looked like: bars in, feature frames out. Knows nothing of models, training or serving."""
