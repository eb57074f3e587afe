"""The gate: what an engine of lower precision must show before it may be published or served."""
