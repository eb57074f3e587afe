"""What the statistics of marks promise, checked by simulation."""
