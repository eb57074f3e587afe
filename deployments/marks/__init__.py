"""Marks over HTTP: who reads them, maybe elsewhere, and who compares them, where keys are."""
