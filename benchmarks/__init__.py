"""Benchmarks: each prints its protocol, machine, versions and ratios, and writes results/*.json."""
