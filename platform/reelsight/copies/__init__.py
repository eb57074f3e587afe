"""Copies: marks written into films and read from clips; pixels, encoders and extractors meet here.

Codes come in and soft bits go out. Neither tenant keys nor ledgers are known here, so that this may
run on workers; whose code it is, `reelsight.marks` says where the keys are.
"""
