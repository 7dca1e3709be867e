"""Overrides: what people order, who confirmed it, when it ends, and which orders concern a contract now."""
