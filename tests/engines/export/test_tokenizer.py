"""The converted tokenizer gives open_clip's ids, and differs exactly where it says it does."""

# ruff: noqa: RUF001, E501
from __future__ import annotations

import itertools
import random
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.export.tokenizer import LOSSY_EXAMPLES, PROBES, save_tokenizer
from reelsight.errors import ModelError

TEMPLATES = (
    "a photo of {}",
    "A {} in the Rain.",
    "it's {}'s video; they'll say {}!!",
    "{}？（{}）",
)
THINGS = (
    "cat", "QR code", "naïve café", "Ångström", "字幕", "黑屏画面", "日本語の字幕", "자막", "ترجمة",
    "субтитры", "ΟΔΟΣ ΣΑΣ", "İstanbul", "straße", "emoji 🎬🎉", "👩‍👩‍👧‍👦", "🇫🇷 flag", "1080p60", "3.14159",
    "50%", "C++ & C#", "a&amp;b", "&lt;b&gt;bold&lt;/b&gt;", "&amp;amp;", "rock 'n' roll", "don't've",
    "snake_case", "x\u00a0y", "tab\there", "line\nbreak", "zero\u200bwidth", "“quoted” ‘text’",
    "ﬁne ﬂow", "ＦＵＬＬ　ＷＩＤＴＨ", "\x07bell", "\x93smart\x94", "e\u0301", "...---...", "$€£¥",
    "²³ ½", "٣٤", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\ufeffbom", "~`^|\\", "'S 'LL", "",
)  # fmt: skip
TEXTS = [
    *PROBES,
    *THINGS,
    *(t.format(a, b) for t, (a, b) in itertools.product(TEMPLATES, itertools.pairwise(THINGS))),
    " ".join(THINGS),
    "supercalifragilistic" * 40,
    "word, " * 300,
]


def compare(source: Any, path: Path, context_length: int) -> list[str]:
    from tokenizers import Tokenizer

    converted = Tokenizer.from_file(str(path))
    expected = source(TEXTS, context_length).tolist()
    actual = [encoding.ids for encoding in converted.encode_batch(TEXTS)]
    return [t for t, a, b in zip(TEXTS, expected, actual, strict=True) if a != b]


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("context_length", [77, 12])
def test_same_ids(clean: str, context_length: int, open_clip: Any, tmp_path: Path) -> None:
    source = open_clip.tokenizer.SimpleTokenizer(context_length=context_length, clean=clean)
    path = tmp_path / "tokenizer.json"
    save_tokenizer(source, path, context_length=context_length)
    assert len(TEXTS) > 200
    assert compare(source, path, context_length) == []


def test_random_unicode_is_the_same_but_for_mojibake(open_clip: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = open_clip.tokenizer.SimpleTokenizer()
    path = tmp_path / "tokenizer.json"
    save_tokenizer(source, path, context_length=77)
    converted = Tokenizer.from_file(str(path))
    rng = random.Random(7)
    pool = [
        chr(code)
        for code in (*range(0x20, 0x3100), *range(0x4E00, 0x9FA0, 7), *range(0x1F300, 0x1F700))
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    ]
    texts = ["".join(rng.choices(pool, k=rng.randint(1, 20))) for _ in range(1000)]
    expected = source(texts).tolist()
    differing = sum(
        a != e.ids for a, e in zip(expected, converted.encode_batch(texts), strict=True)
    )
    # ftfy takes a few random strings for mis-decoded text and rewrites them.
    assert differing <= 10


@pytest.mark.parametrize("text", LOSSY_EXAMPLES)
def test_documented_differences_are_real(text: str, open_clip: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = open_clip.tokenizer.SimpleTokenizer()
    save_tokenizer(source, tmp_path / "t.json", context_length=77)
    converted = Tokenizer.from_file(str(tmp_path / "t.json"))
    assert source([text]).tolist()[0] != converted.encode(text).ids
    if "<" not in text:
        repaired = open_clip.tokenizer.basic_clean(text)
        assert source([text]).tolist()[0] == converted.encode(repaired).ids


def test_reduction_mask_is_refused(open_clip: Any, tmp_path: Path) -> None:
    source = open_clip.tokenizer.SimpleTokenizer(reduction_mask="random")
    with pytest.raises(ModelError, match="at random") as caught:
        save_tokenizer(source, tmp_path / "t.json", context_length=77)
    assert caught.value.code == "model.tokenizer_unsupported"
    assert not (tmp_path / "t.json").exists()


class HFTokenizer:
    """open_clip's wrapper of the same name, over a tokenizer built here instead of a hub's."""

    def __init__(self, open_clip: Any, **changes: Any) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        words = ["a", "cat", "dog", "photo", "of", "the", "in", "it", "s"]
        vocab = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *words])}
        backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
        self.backend = backend
        self.tokenizer = SimpleNamespace(
            backend_tokenizer=backend, padding_side="right", pad_token_id=0, pad_token="<pad>"
        )
        self.clean_fn = open_clip.tokenizer.get_clean_fn("canonicalize")
        self.tokenizer_mode = ""
        self.strip_sep_token = False
        self.__dict__.update(changes)

    def __call__(self, texts: list[str], context_length: int) -> Any:
        import numpy as np
        from tokenizers import Tokenizer

        inner = Tokenizer.from_str(self.backend.to_str())
        inner.enable_truncation(context_length)
        inner.enable_padding(length=context_length, pad_id=0, pad_token="<pad>")
        return np.array([inner.encode(self.clean_fn(text)).ids for text in texts])


def test_hugging_face_tokenizer_keeps_its_own_file(open_clip: Any, tmp_path: Path) -> None:
    source = HFTokenizer(open_clip)
    save_tokenizer(source, tmp_path / "t.json", context_length=8)
    assert compare(source, tmp_path / "t.json", 8) == []


@pytest.mark.parametrize(
    "changes",
    [{"tokenizer_mode": "clips"}, {"strip_sep_token": True}, {"tokenizer": SimpleNamespace()},
     {"clean_fn": str.upper}],
    ids=["mode", "separators", "slow", "cleaning"],
)  # fmt: skip
def test_hugging_face_tokenizer_that_cannot_be_written_is_refused(
    changes: dict[str, Any], open_clip: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        save_tokenizer(HFTokenizer(open_clip, **changes), tmp_path / "t.json", context_length=8)
    assert caught.value.code == "model.tokenizer_unsupported"


def test_conversion_that_changes_ids_is_refused(open_clip: Any, tmp_path: Path) -> None:
    class Shifted(HFTokenizer):
        def __call__(self, texts: list[str], context_length: int) -> Any:
            return super().__call__(texts, context_length) + 1

    Shifted.__name__ = "HFTokenizer"
    with pytest.raises(ModelError, match="differs on"):
        save_tokenizer(Shifted(open_clip), tmp_path / "t.json", context_length=8)
    assert not (tmp_path / "t.json").exists()
