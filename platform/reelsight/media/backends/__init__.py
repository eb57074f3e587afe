"""Decoders behind one seam: which there are, what each may be given, and which one is taken.

Callers import from the modules: `media.backends.negotiate.negotiate` chooses, what it chooses
decodes as `media.decode.decode` does.
"""
