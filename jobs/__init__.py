"""The offline composition: one job a file, run with `python -m jobs.<name>`."""
