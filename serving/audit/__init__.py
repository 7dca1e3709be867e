"""The audit trail: what was decided was not rewritten, comes out again, and can be told in words."""
