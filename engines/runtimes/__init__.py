"""Runtimes: one module for each library that can run a model."""
