"""What decoding costs, `python -m benchmarks.decode`, and what it gets right, `...decode.truth`."""
