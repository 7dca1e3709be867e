"""What is kept: bars, decisions, and what each contract's engine remembers."""
