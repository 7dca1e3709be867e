"""Tail forecasts: the contract in ``base``, one model a file. Import models through ``discovery``."""
