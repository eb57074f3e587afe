"""How the leak-tracing mark is trained, measured and exported. Not part of the wheel."""
