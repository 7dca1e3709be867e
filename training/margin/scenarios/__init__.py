"""Named scenarios: constructed tapes of what has gone wrong elsewhere, played through the safety engine.

Commands, tests and docs use the same tapes, found by name in ``registry.SCENARIOS``.
"""
