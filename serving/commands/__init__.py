"""Verbs that have verbs of their own."""
