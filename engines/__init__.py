"""What runs on a device: export, runtimes, and the catalogue that opens them by name."""
