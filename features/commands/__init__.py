"""What the command line does where it is more than a call: one module a verb."""
