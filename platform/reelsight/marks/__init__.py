"""Marks: who got which copy, and whose copy a leaked video is. No pixels here, and no networks.

Codewords from tenant keys, the ledger of issued copies, the statistics of a match, verdicts, and
the evidence. Extractors hand soft bits to `tracing.Tracer` and never see a key.
"""
