"""Linear attention (Gated DeltaNet) in a model whose rows hold several documents, and images that are denoised.

Some families (`qwen3_5_moe`) mix full attention with recurrences: a layer's short convolution and its state run over the tokens
in order, and there is no mask to hide one token from another. What the attention rule means there:

- *documents*: every document starts from an empty state, as if it stood alone in its row. Packed rows are taken apart into
  documents around each recurrence, in batches of similar length padded on the right, where a recurrence does not look.
- *padding on the left* (prompts of different lengths): the layer's input is zeroed there, so convolution and state stay empty.
- *images*: tokens of an image pass in order, row by row, so a token sees earlier ones of its image and not later ones. They see
  each other both ways in the full-attention layers only.
- *noisy latents* cannot be hidden from what follows them in the recurrence. In our documents only `</image>` does, which
  predicts nothing; a format with text after a drawn image would have to be split there.
- *drawing*: every denoising step starts from the state that the prompt left (`snapshot`, `restore`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

LINEAR, FULL = "linear_attention", "full_attention"
"""Keys of the masks that such a decoder takes, and names in its config's `layer_types`."""


@dataclass(frozen=True)
class Documents:
    """The documents of packed rows, taken apart and put together by length. T = B·S tokens.

    buckets: (source_NL, inside_NL) of N documents of at most L tokens and more than L / 2, so that at most half of a bucket is
    padding. source_NL: int64, where in the flattened rows a document's tokens stand (0 where there are none); inside_NL: bool,
    where it has tokens.
    """

    buckets: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, document_BS: Tensor) -> Documents | None:
        """document_BS: number of each token's document within its row, ascending, -1 = padding behind them. None if no row has
        more than one."""
        if not bool((document_BS > 0).any()):
            return None
        rows, columns = (document_BS >= 0).nonzero(as_tuple=True)
        at_T = rows * document_BS.shape[1] + columns
        starts_T = torch.ones_like(at_T, dtype=torch.bool)
        number_T = rows * document_BS.shape[1] + document_BS[rows, columns]
        starts_T[1:] = number_T[1:] != number_T[:-1]
        first_N = starts_T.nonzero().squeeze(1)
        lengths = torch.diff(first_N, append=first_N.new_tensor([at_T.numel()])).tolist()
        by_size: dict[int, list[int]] = {}
        for number, length in enumerate(lengths):
            by_size.setdefault((length - 1).bit_length(), []).append(number)
        buckets = []
        for _, numbers in sorted(by_size.items()):
            lengths_N1 = torch.tensor([[lengths[n]] for n in numbers], device=at_T.device)
            offset_L = torch.arange(int(lengths_N1.max()), device=at_T.device)
            inside_NL = offset_L < lengths_N1
            start_N1 = at_T[first_N[torch.tensor(numbers, device=at_T.device)]].unsqueeze(1)
            buckets.append((torch.where(inside_NL, start_N1 + offset_L, 0), inside_NL))
        return cls(tuple(buckets))

    def apply(self, layer: Callable[[Tensor], Tensor], x_BSD: Tensor) -> Tensor:
        """`layer`, which maps (N, L, D) to the same shape, on every document by itself. Padding becomes zero."""
        x_TD = x_BSD.flatten(0, 1)
        made = [layer(x_TD[source_NL] * inside_NL.unsqueeze(-1))[inside_NL] for source_NL, inside_NL in self.buckets]
        place_T = torch.cat([source_NL[inside_NL] for source_NL, inside_NL in self.buckets])
        # zeros in the layer's own type, which autocast may have chosen
        return made[0].new_zeros(x_TD.shape).index_copy(0, place_T, torch.cat(made)).view_as(x_BSD)


def recurrent_mask(document_BS: Tensor, queries: int, cached: bool) -> Documents | Tensor | None:
    """What the recurrences take beside the last `queries` tokens: packed documents, or, when a cache is filled, padding on the
    left, (B, Q) bool, False = padding. None if there is nothing to tell."""
    if not cached:
        return Documents.of(document_BS)
    inside_BQ = document_BS[:, -queries:] >= 0
    return None if bool(inside_BQ.all()) else inside_BQ


class _Documentwise:
    """Takes `Documents` for the mask of a recurrence. Any other mask goes to the family's own forward as it is."""

    def forward(
        self, hidden_states: Tensor, cache_params: Cache | None = None, attention_mask: Any = None, **kwargs: Any
    ) -> Tensor:
        own = super().forward  # type: ignore[misc]
        if not isinstance(attention_mask, Documents):
            return own(hidden_states, cache_params=cache_params, attention_mask=attention_mask, **kwargs)
        assert cache_params is None, "packed rows are not cached"
        return attention_mask.apply(lambda x_NLD: own(x_NLD, cache_params=None, attention_mask=None, **kwargs), hidden_states)


_CLASSES: dict[type, type] = {}


def isolate_documents(decoder: nn.Module) -> bool:
    """Make the recurrences of a decoder accept `Documents`, in place. Returns whether it has any."""
    found = False
    for layer, kind in zip(decoder.layers, getattr(decoder.config, "layer_types", None) or (), strict=False):  # type: ignore[arg-type]
        if kind != LINEAR:
            continue
        found = True
        cls = type(layer.linear_attn)
        if cls not in _CLASSES:
            _CLASSES[cls] = type(cls.__name__, (_Documentwise, cls), {"__module__": cls.__module__})
        layer.linear_attn.__class__ = _CLASSES[cls]
    return found


def snapshot(cache: Cache) -> list[dict[str, Any]]:
    """What a cache holds, to `restore` it later. Keys and values grow by new tensors, so theirs need no copy; the states of
    recurrences are written in place and are copied."""
    return [{name: _copied(value) for name, value in vars(layer).items()} for layer in cache.layers]


def restore(cache: Cache, state: list[dict[str, Any]]) -> None:
    """Put a cache back to what it was at its `snapshot`, which can be used again."""
    for layer, held in zip(cache.layers, state, strict=True):
        vars(layer).clear()
        vars(layer).update({name: _copied(value) for name, value in held.items()})


def _copied(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: item.clone() if isinstance(item, Tensor) else item for key, item in value.items()}
