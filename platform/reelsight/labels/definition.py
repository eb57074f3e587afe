"""labels.yaml: how a person writes a bank, before a model turns it into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from reelsight.errors import BankError

__all__ = ["BankDefinition", "LabelDefinition"]

Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelDefinition(_Strict):
    """One label: a name, and how one would say it.

    Attributes:
        name: Identifier; what a Tag carries.
        prompts: Phrases; the name itself, with spaces, when none are given.
        threshold: Cosine threshold in (-1, 1); the model's default when absent.
        aliases: Names for people, by language.
        critical: Engines of lower precision may hardly ever decide it otherwise.
    """

    name: Phrase
    prompts: tuple[Phrase, ...] = ()
    threshold: float | None = Field(default=None, gt=-1, lt=1)
    aliases: dict[str, tuple[Phrase, ...]] = {}
    critical: bool = False

    @property
    def phrases(self) -> tuple[str, ...]:
        """The prompts, or the name read aloud."""
        return self.prompts or (self.name.replace("_", " "),)


class BankDefinition(_Strict):
    """The whole of labels.yaml.

    Attributes:
        name: Name of the bank.
        templates: Sentences with one `{}` that every prompt is put into.
        labels: At least one, names unique.
    """

    name: Annotated[Phrase, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    templates: tuple[Phrase, ...] = ("{}",)
    labels: tuple[LabelDefinition, ...] = Field(min_length=1)

    @field_validator("templates")
    @classmethod
    def _one_slot(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        bad = [t for t in templates if t.count("{}") != 1]
        if bad or not templates:
            raise ValueError(f"a template holds exactly one {{}}, got {bad or templates!r}")
        return templates

    @classmethod
    def load(cls, path: Path) -> BankDefinition:
        """Read labels.yaml.

        Raises:
            BankError: The file is missing, not YAML, or does not fit; the message says where.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls.model_validate(yaml.safe_load(text))
        except (OSError, UnicodeDecodeError) as error:
            raise BankError(f"cannot read {path}: {error}", code="bank.definition") from error
        except yaml.YAMLError as error:
            raise BankError(f"{path} is not YAML: {error}", code="bank.definition") from error
        except ValidationError as error:
            where = "; ".join(
                f"{'.'.join(str(p) for p in e['loc']) or 'file'}: {e['msg']}"
                for e in error.errors()
            )
            raise BankError(
                f"{path}: {where}",
                code="bank.definition",
                hint="A definition has name, and labels with name, prompts, threshold, aliases,"
                " critical.",
            ) from error
