"""Engine packages: built once, gated, signed, stored, found again, and verified before use."""
