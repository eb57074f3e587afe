"""CUDA behind a small seam: memory, streams, events and graphs for engines that own a GPU.

Importing this package needs neither a driver nor a library: both are looked for when a device is
opened, and their absence is an `EngineError` that says what to install.
"""
