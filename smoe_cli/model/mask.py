"""The attention rule, defined once.

A token sees another one if both are in the same document, and the other is earlier or in the same image, and the other is not
a noisy latent of some other image:

    (causal ∨ same image) ∧ same document ∧ ¬(key is a noisy latent ∧ query is outside its image)

Models that were trained with causal attention over their images (`model.image_attention: causal`) count no image to understand
as one: see `SymbioticModel.layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """What the rule looks at. document_BS: -1 = padding; image_BS: -1 = not in an image; noisy_BS: latents being denoised."""

    document_BS: Tensor
    image_BS: Tensor
    noisy_BS: Tensor

    @classmethod
    def cat(cls, *parts: Layout) -> Layout:
        """Join along the sequence."""
        return cls(*(torch.cat([getattr(p, f) for p in parts], dim=1) for f in ("document_BS", "image_BS", "noisy_BS")))


def rule(layout: Layout) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The rule as a `mask_mod(batch, head, query, key)` on index tensors, the form FlexAttention takes."""
    document, image, noisy = layout.document_BS, layout.image_BS, layout.noisy_BS

    def mask_mod(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same_image = (image[b, q] == image[b, k]) & (image[b, q] >= 0)
        return (document[b, q] == document[b, k]) & ((q >= k) | same_image) & (~noisy[b, k] | same_image)

    return mask_mod


def dense(layout: Layout, queries: int | None = None) -> Tensor:
    """The rule as a (B, 1, Q, S) boolean mask, True = visible, for all positions or the last `queries` ones.

    Padding sees earlier padding and itself, so that no row of the mask is empty.
    """
    batch, length = layout.document_BS.shape
    position = torch.arange(length, device=layout.document_BS.device)
    b = torch.arange(batch, device=position.device)[:, None, None]
    q = position[None, length - (length if queries is None else queries) :, None]
    return rule(layout)(b, torch.zeros_like(b), q, position[None, None, :]).unsqueeze(1)
