"""From a uri to sampled pixels: fetch, open, probe, sample, decode, scale.

Callers import from the modules: `media.fetch.fetch`, `media.probe.probe`, `media.decode.decode`,
`media.limits.MediaLimits`, `media.sampler.Sampling`.
"""
