"""An OCR model that says what is written in a drawing: RapidOCR's recogniser (PP-OCRv4) of the package rapidocr-onnxruntime."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from smoe_cli.errors import UserError
from smoe_cli.files import sha256

INK = 0.4
"""Ink is what differs from the paper by this share of the largest difference, or more."""
MARGIN = 0.1
"""Paper left around the ink, as a share of its height."""


class Judge:
    """Reads one line of text. Raises UserError when the package is missing."""

    def __init__(self) -> None:
        if not importlib.util.find_spec("rapidocr_onnxruntime"):
            raise UserError(
                "drawn-text: the package rapidocr-onnxruntime, which reads the drawings, is not installed",
                "pip install 'smoe[generation]'",
            )
        import rapidocr_onnxruntime

        self._ocr = rapidocr_onnxruntime.RapidOCR(intra_op_num_threads=torch.get_num_threads())
        weights = next(Path(rapidocr_onnxruntime.__file__).parent.glob("models/*_rec_*.onnx"))
        self.name = f"rapidocr-{version('rapidocr-onnxruntime')}"
        self.facts: dict[str, Any] = {
            "name": self.name,
            "model": weights.name,
            "sha256": sha256(weights),
            "preprocessing": f"cropped to the ink ({INK} of the contrast), a margin of paper of {MARGIN} of its height, BGR",
            "normalisation": "surrounding space stripped, case folded",
        }

    def read(self, image: Image.Image) -> str:
        """What is written in an RGB image; empty when it has one colour only."""
        cropped = crop(np.asarray(image.convert("RGB")))
        if cropped is None:
            return ""
        found, _ = self._ocr(cropped[:, :, ::-1].copy(), use_det=False, use_cls=False)
        return found[0][0].strip() if found else ""


def crop(pixels: np.ndarray) -> np.ndarray | None:
    """(H, W, 3) uint8 to the part that holds ink, with a margin of the paper's colour; None without ink.

    The recogniser scales a picture to 48 pixels of height and was made for cropped lines: of small text in a large picture it
    reads nothing. The paper's colour is the median of the outermost pixels.
    """
    values = pixels.astype(np.float32)
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    paper = np.median(edge, axis=0)
    difference = np.abs(values - paper).max(axis=-1)
    if not difference.any():
        return None
    rows, columns = np.nonzero(difference >= INK * difference.max())
    ink = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    margin = max(1, round(MARGIN * len(ink)))
    framed = np.empty((ink.shape[0] + 2 * margin, ink.shape[1] + 2 * margin, 3), np.uint8)
    framed[:] = paper.astype(np.uint8)
    framed[margin:-margin, margin:-margin] = ink
    return framed
