"""Margin: what a forecast requires, the rules that bound it, and the ladder that replaces it."""
