"""A fuzz target for the interpreter, guided by coverage: `make fuzz`."""
