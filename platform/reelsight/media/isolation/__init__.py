"""Decoding in a process that may die: one clip's bytes cost one clip, never their reader.

Callers import from the modules: `policy.Isolation` (what may be set) and `decoder.open_decoder`
(what decodes). The nursery, its workers and the wire between them are nobody else's business.
"""
