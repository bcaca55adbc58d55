"""How many tokens things take: the vocabulary, images, and the shortest document of a source."""

from __future__ import annotations

from smoe_cli.recipe.models import Recipe, RenderedText, Source

BYTES_VOCABULARY = 5 + 256
"""The built-in tokenizer: <pad> <bos> <eos> <image> </image>, then the bytes."""


def patches(image: tuple[int, int], patch: tuple[int, int]) -> int:
    """Tokens of an image."""
    return (image[0] // patch[0]) * (image[1] // patch[1])


def bytewise(recipe: Recipe) -> bool:
    """Whether one token is one byte. Without `tokenizer`, a backbone from scratch has the built-in one."""
    tokenizer = recipe.model.tokenizer
    return tokenizer.kind == "bytes" if tokenizer else recipe.model.backbone.scratch is not None


def least_tokens(recipe: Recipe, source: Source, vit_tokens: int) -> tuple[int, str]:
    """Tokens that the longest sample of a source takes at least, and how they add up. vit_tokens: of an image to understand.

    A bound from below: the text of a dataset, and how a pretrained tokenizer cuts it, are not known here. An image with an
    empty text is the least; with the built-in tokenizer (one token a byte) the texts that the recipe gives are counted.
    """
    bytes_ = bytewise(recipe)
    drawn = source.length[1] if isinstance(source, RenderedText) and bytes_ else 0
    model = recipe.model
    if source.task == "mmu" and model.vision is not None:
        asked = len(source.question.encode()) + 1 if source.question and bytes_ else 0
        # <bos> <image> … </image> question newline answer <eos>; not every tokenizer has a <bos>
        parts = {"image": vit_tokens, "question": asked, "answer": max(drawn, 1), "special tokens": 3 + bytes_}
    elif source.task == "t2i" and model.latents is not None:
        image = patches(model.latents.image_size, model.latents.patch_size)
        # <bos> caption <image> … </image>
        parts = {"image": image, "caption": drawn, "special tokens": 2 + bytes_}
    else:
        return 0, ""
    return sum(parts.values()), " + ".join(f"{number} {what}" for what, number in parts.items() if number)
