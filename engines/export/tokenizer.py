"""Turn an open_clip tokenizer into one tokenizer.json that needs neither torch nor open_clip.

The ids are the same, padding and truncation included. Two steps of open_clip's cleaning cannot be
written as a tokenizer.json: ftfy's repair of mis-decoded text and html.unescape of every entity.
What is kept of them is what ordinary text meets: NFC, straight quotes, full-width and ligature
characters, control characters, and XML's five entities. `LOSSY_EXAMPLES` lists texts that do
differ, and the tests check that they do, so that the list stays true.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engines.export.openclip_import import import_extra, import_open_clip
from reelsight.errors import ModelError

__all__ = ["LOSSY_EXAMPLES", "PROBES", "save_tokenizer"]

# Texts whose ids differ from open_clip's: mojibake that ftfy repairs, entities outside XML's five,
# and a literal special token, which open_clip obeys and this tokenizer reads as text.
LOSSY_EXAMPLES = (
    "schÃ¶n",
    "caf&eacute; &copy; 2024",
    "numeric &#9731; entity",
    "before <end_of_text> after",
)

# What a converted tokenizer must get right before it is written.
PROBES = (
    "",
    "a photo of a cat",
    "  A  Photo\tof\na DOG!  ",
    "it's they're we'll I'd don't you've I'm",
    "price: $1,234.56 (50% off) #sale @home",
    "naïve café ÅNGSTRÖM straße",
    "一只猫在睡觉，旁边有字幕。",
    "日本語テスト 한국어 العربية हिन्दी",
    "🎬 🎉🎉 👩‍👩‍👧 ok",
    "“curly” ‘quotes’ — dashes…",
    "black_and_white snake_case <tag> {x}",
    "word " * 200,
)

_XML_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&apos;", "'"))
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}]"
_FINAL_SIGMA = rf"(?<={_CASED})Σ(?!['’.:·\p{{M}}\p{{Cf}}\p{{Lm}}\p{{Sk}}]*{_CASED})"
_PUNCTUATION = "[" + re.escape(string.punctuation) + "]"


def save_tokenizer(tokenizer: Any, path: Path, *, context_length: int) -> None:
    """Write the tokenizer.json of an open_clip tokenizer.

    Args:
        tokenizer: What `open_clip.get_tokenizer` returned.
        path: The file to write.
        context_length: Ids of a text, after padding and truncation.

    Raises:
        ModelError: `model.tokenizer_unsupported` when no tokenizer.json gives the same ids.
    """
    kind = type(tokenizer).__name__
    if kind == "SimpleTokenizer":
        converted = _from_simple(tokenizer, context_length)
    elif kind in ("HFTokenizer", "SigLipTokenizer"):
        converted = _from_hugging_face(tokenizer, context_length)
    else:
        raise _unsupported(f"open_clip tokenizer {kind} has no known conversion")
    _check_same_ids(tokenizer, converted, context_length)
    converted.save(str(path))


def _from_simple(source: Any, context_length: int) -> Any:
    tokenizers = import_extra("tokenizers")
    if source.reduction_fn is not None:
        raise _unsupported("its reduction mask drops tokens at random")
    merges = [pair for pair, _ in sorted(source.bpe_ranks.items(), key=lambda item: item[1])]
    model = tokenizers.models.BPE(
        vocab=source.encoder, merges=merges, end_of_word_suffix="</w>", fuse_unk=False
    )
    converted = tokenizers.Tokenizer(model)
    converted.normalizer = _normalizer(_cleaning_of(source))
    specials = [source.decoder[i] for i in source.all_special_ids]
    # Without the literal special tokens, so that a text cannot end or start itself.
    pattern = "|".join(source.pat.pattern.split("|")[len(specials) :])
    converted.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(
                tokenizers.Regex(f"(?i:{pattern})"), behavior="removed", invert=True
            ),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = specials[:2]
    converted.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, source.sot_token_id), (end, source.eot_token_id)],
    )
    converted.decoder = tokenizers.decoders.ByteLevel()
    converted.enable_truncation(context_length)
    converted.enable_padding(length=context_length, pad_id=0, pad_token=source.decoder[0])
    return converted


def _from_hugging_face(source: Any, context_length: int) -> Any:
    tokenizers = import_extra("tokenizers")
    inner = source.tokenizer
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is None:
        raise _unsupported(
            f"{type(inner).__name__} is not a fast tokenizer, so has no tokenizer.json"
        )
    if getattr(source, "tokenizer_mode", "") or getattr(source, "strip_sep_token", False):
        raise _unsupported(
            "open_clip changes its ids after tokenizing (tokenizer_mode or separators)"
        )
    converted = tokenizers.Tokenizer.from_str(backend.to_str())
    cleaning = _normalizer(_cleaning_of(source))
    own = converted.normalizer
    converted.normalizer = (
        cleaning if own is None else tokenizers.normalizers.Sequence([cleaning, own])
    )
    converted.enable_truncation(context_length)
    converted.enable_padding(
        direction=inner.padding_side,
        length=context_length,
        pad_id=inner.pad_token_id,
        pad_token=inner.pad_token,
    )
    return converted


def _cleaning_of(source: Any) -> str:
    """Which of open_clip's cleaning functions a tokenizer uses."""
    if type(source).__name__ == "SigLipTokenizer":
        return "canonicalize"
    get_clean_fn = import_open_clip().tokenizer.get_clean_fn
    for name in ("lower", "whitespace", "canonicalize"):
        if source.clean_fn is get_clean_fn(name):
            return name
    raise _unsupported("its cleaning function is none of open_clip's own")


def _normalizer(cleaning: str) -> Any:
    """Ordered: ftfy's characters, html's entities, white space, and the named cleaning."""
    tokenizers = import_extra("tokenizers")
    replace, regex = tokenizers.normalizers.Replace, tokenizers.Regex
    # Twice, because open_clip unescapes twice.
    steps = [replace("&amp;", "&"), replace("&amp;", "&")]
    steps += [replace(entity, char) for entity, char in _XML_ENTITIES]
    steps += [replace(char, becomes) for char, becomes in _ftfy_characters()]
    steps += [
        replace(regex("[\u02bc\u2018-\u201b]"), "'"),
        replace(regex("[\u201c-\u201f]"), '"'),
        replace(regex(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"), ""),
        tokenizers.normalizers.NFC(),
    ]
    if cleaning == "canonicalize":
        steps += [replace("_", " "), replace(regex(_PUNCTUATION), "")]
    if cleaning in ("lower", "canonicalize"):
        # str.lower() knows the final sigma; a per-character lower-casing does not.
        steps += [replace(regex(_FINAL_SIGMA), "ς"), tokenizers.normalizers.Lowercase()]
    steps += [replace(regex(r"\s+"), " "), tokenizers.normalizers.Strip()]
    return tokenizers.normalizers.Sequence(steps)


def _ftfy_characters() -> Iterable[tuple[str, str]]:
    """Yield ftfy's single-character repairs: Windows-1252 controls, ligatures, full-width forms."""
    for code in range(0x80, 0xA0):
        becomes = bytes([code]).decode("windows-1252", errors="ignore")
        if becomes:
            yield chr(code), becomes
    chardata = import_extra("ftfy.chardata")
    for table in (chardata.LIGATURES, chardata.WIDTH_MAP):
        for code, becomes in sorted(table.items()):
            yield chr(code), becomes


def _check_same_ids(source: Any, converted: Any, context_length: int) -> None:
    expected = source(list(PROBES), context_length).tolist()
    for text, ids, encoding in zip(PROBES, expected, converted.encode_batch(PROBES), strict=True):
        if ids != encoding.ids:
            raise _unsupported(f"the converted tokenizer differs on {json.dumps(text[:60])}")


def _unsupported(reason: str) -> ModelError:
    return ModelError(
        f"this model's tokenizer cannot be written as a tokenizer.json: {reason}.",
        code="model.tokenizer_unsupported",
        hint="Choose a model that uses CLIP's own byte-pair tokenizer, such as ViT-B-32.",
    )
