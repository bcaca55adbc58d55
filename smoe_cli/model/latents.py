"""The latent interface: what turns an image into `vae` tokens and predictions back into an image.

Flow matching (Rosetta, "Flow matching"; BAGEL): x_t = (1 − t)·x0 + t·ε, target v = ε − x0.
Suffixes: N images, C channels, P tokens of an image, V values of a token, D hidden width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from smoe_cli.plan.tensors import TIME_FEATURES
from smoe_cli.recipe.models import Latents

SMALLEST_T = 0.05


def patchify(x_NCHW: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, C, H, W) → (N, H/ph · W/pw, C·ph·pw), patches row by row."""
    n, c, h, w = x_NCHW.shape
    ph, pw = patch
    return (
        x_NCHW.reshape(n, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 1, 3, 5).reshape(n, (h // ph) * (w // pw), c * ph * pw)
    )


def unpatchify(x_NPV: Tensor, patch: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Inverse of `patchify` for images of `size` (height, width)."""
    ph, pw = patch
    rows, columns = size[0] // ph, size[1] // pw
    n, _, v = x_NPV.shape
    c = v // (ph * pw)
    return x_NPV.reshape(n, rows, columns, c, ph, pw).permute(0, 3, 1, 4, 2, 5).reshape(n, c, size[0], size[1])


def sinusoid(position: Tensor, features: int, longest: float = 10_000.0) -> Tensor:
    """(…,) float → (…, features): cosines, then sines, of geometrically spaced frequencies (Vaswani et al. 2017, §3.5)."""
    frequency = torch.exp(-math.log(longest) * torch.arange(features // 2, device=position.device) / (features // 2))
    angle = position.float().unsqueeze(-1) * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """(rows·columns, width) fixed 2-D position embedding: half of the features for the row, half for the column."""
    half = width // 2 - (width // 2) % 2
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    both = torch.cat([sinusoid(r.flatten(), half), sinusoid(c.flatten(), half)], dim=-1)
    return nn.functional.pad(both, (0, width - both.shape[-1]))


def target_velocity(x0: Tensor, noise: Tensor, x_t: Tensor, t_N: Tensor, prediction: str) -> Tensor:
    """ε − x0; where the image is predicted, the same as (x_t − x0) / t with t bounded, so that the right image has no loss."""
    return noise - x0 if prediction == "velocity" else (x_t - x0) / t_N.clamp_min(SMALLEST_T)[:, None, None]


def noised(x0: Tensor, noise: Tensor, t_N: Tensor) -> Tensor:
    """x_t = (1 − t)·x0 + t·ε for (N, P, V) tensors and one t for each image."""
    t = t_N[:, None, None]
    return (1 - t) * x0 + t * noise


class LatentInterface(nn.Module):
    """Codec, patches, projections in and out (out starts at zero, as in BAGEL), 2-D positions, timestep embedding."""

    def __init__(self, spec: Latents, hidden_size: int, eps: float):
        super().__init__()
        (h, w), (ph, pw) = spec.image_size, spec.patch_size
        self.size, self.patch, self.prediction = spec.image_size, spec.patch_size, spec.prediction
        values = 3 * ph * pw
        self.proj_in = nn.Linear(values, hidden_size)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        self.norm = nn.RMSNorm(hidden_size, eps=eps)
        self.proj_out = nn.Linear(hidden_size, values)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.positions: Tensor
        self.register_buffer("positions", grid_positions(h // ph, w // pw, hidden_size), persistent=False)

    def derive_buffers(self) -> None:
        """Fill the buffers again, which no file holds, after a loader that builds models without memory."""
        (h, w), (ph, pw) = self.size, self.patch
        positions = grid_positions(h // ph, w // pw, self.positions.shape[1])
        self.positions = positions.to(device=self.positions.device, dtype=self.positions.dtype)

    def encode(self, pixels_NCHW: Tensor) -> Tensor:
        """Images in [-1, 1] → (N, P, V) clean latents."""
        return patchify(pixels_NCHW, self.patch)

    def decode(self, latents_NPV: Tensor) -> Tensor:
        """Latents → (N, 3, H, W) images, clipped to [-1, 1]."""
        return unpatchify(latents_NPV.float(), self.patch, self.size).clamp(-1, 1)

    def embed(self, latents_NPV: Tensor, t_N: Tensor) -> Tensor:
        """Noisy latents and their timesteps → (N, P, D) token embeddings."""
        dtype = self.proj_in.weight.dtype  # what comes in, and the positions, is float32 whatever the model computes in
        time_ND = self.time(sinusoid(t_N * 1000, TIME_FEATURES).to(dtype))
        return (self.proj_in(latents_NPV.to(dtype)) + self.positions + time_ND.unsqueeze(1)).to(dtype)

    def velocity(self, hidden_NPD: Tensor, x_t_NPV: Tensor, t_N: Tensor) -> Tensor:
        """Hidden states of `vae` tokens, and what they were computed from → predicted ε − x0 (N, P, V), float32.

        A predicted image x̂0 gives the velocity (x_t − x̂0) / t, with t bounded away from 0 (arXiv 2511.13720, section 4.3).
        """
        out_NPV = self.proj_out(self.norm(hidden_NPD)).float()
        if self.prediction == "velocity":
            return out_NPV
        return (x_t_NPV.float() - out_NPV) / t_N.float().clamp_min(SMALLEST_T)[:, None, None]
