"""What decode backends get right: `python -m benchmarks.decode.truth`."""
