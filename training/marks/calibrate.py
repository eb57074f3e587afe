"""The last touch to a trained extractor: logits that are centred and mean what they say.

Unmarked pictures must not lean to any bit, or a ledger's codes would not be equally far from them;
and a logit is to be the log odds of its bit under a typical attack, so that frames can be summed.
Both change the last layer alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.marks.extractor import Extractor

__all__ = ["centre", "temper"]

_TEMPERATURES = tuple(0.25 * 1.08**i for i in range(40))


def centre(extractor: Extractor, unmarked: Tensor) -> float:
    """Take the mean logit of every bit over unmarked pictures off its bias.

    Args:
        extractor: Changed in place.
        unmarked: Logits [n, bits] of unmarked pictures.

    Returns:
        The largest shift, in logits.
    """
    mean = unmarked.mean(0)
    with torch.no_grad():
        extractor.last.bias[:-1] -= mean
    return float(mean.abs().max())


def temper(extractor: Extractor, logits: Tensor, bits: Tensor) -> float:
    """Divide the logits by the temperature of least cross-entropy.

    Args:
        extractor: Changed in place.
        logits: Of attacked marked pictures, [n, bits], after centring.
        bits: What they carry, [n, bits].

    Returns:
        The temperature.
    """
    costs = [
        float(functional.binary_cross_entropy_with_logits(logits / t, bits)) for t in _TEMPERATURES
    ]
    best = _TEMPERATURES[costs.index(min(costs))]
    with torch.no_grad():
        extractor.last.weight[:-1] /= best
        extractor.last.bias[:-1] /= best
    return best
