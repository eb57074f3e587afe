"""The tokenizer of reelsight-mini: a small byte-pair encoding of the captions.

Padding and truncation to the context length are part of the file, so that encoding a text needs the
`tokenizers` package and nothing else. The end mark has the highest id, which is what `argmax`
pooling in open_clip looks for.
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from training.mini.captions import corpus

__all__ = ["build_tokenizer", "encode", "with_dropout"]

_SEED = 5


def build_tokenizer(vocab_size: int, context_length: int) -> Tokenizer:
    """Train the tokenizer.

    Args:
        vocab_size: Most entries, the four marks included.
        context_length: Tokens a text is padded or cut to, its two marks included.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 3,
        special_tokens=["<unk>"],
        initial_alphabet=list(string.ascii_lowercase + string.digits + ",.-'"),
        show_progress=False,
    )
    text = corpus(np.random.default_rng(_SEED), 20_000)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens(["<pad>", "<start>", "<end>"])
    start, end = tokenizer.token_to_id("<start>"), tokenizer.token_to_id("<end>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", start), ("<end>", end)]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(
        length=context_length, pad_id=tokenizer.token_to_id("<pad>"), pad_token="<pad>"
    )
    return tokenizer


def with_dropout(path: Path, dropout: float) -> Tokenizer:
    """The saved tokenizer, with merges skipped at random, for training only.

    Without it the pieces of unseen words would never be trained, because every training word is one
    token.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.model.dropout = dropout
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Token ids, int64 [len(texts), context_length]."""
    return np.asarray([row.ids for row in tokenizer.encode_batch(texts)], np.int64)
