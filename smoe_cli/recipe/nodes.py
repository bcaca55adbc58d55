"""What all recipe mappings are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Modality = Literal["text", "vit", "vae"]
"""`text`; `vit` = vision-encoder feature (understanding); `vae` = latent of an image being generated."""

MODALITIES: tuple[Modality, ...] = ("text", "vit", "vae")
TEXT, VIT, VAE = range(3)
"""Their numbers, as tensors hold them: indices into MODALITIES."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[tuple[Positive, Positive], Field(description="[height, width] in pixels")]


def key_of(attribute: str) -> str:
    """The recipe's key of an attribute. Keys that are words of Python (`from`) have an underscore at the end in Python only."""
    return attribute.removesuffix("_")


class Node(BaseModel):
    """Base of every recipe mapping: immutable, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        alias_generator=key_of,
        serialize_by_alias=True,
    )


def attributes_of(node: type[BaseModel]) -> dict[str, str]:
    """{key: attribute} of a mapping, in the order of the language."""
    return {key_of(name): name for name in node.model_fields}


def fields_of(node: type[BaseModel]) -> dict[str, FieldInfo]:
    """{key: field} of a mapping, in the order of the language."""
    return {key_of(name): info for name, info in node.model_fields.items()}
