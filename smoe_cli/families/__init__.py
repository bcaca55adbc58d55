"""Model families as data, and checkpoints in Hugging Face layout as names and shapes. No torch, no transformers."""

from smoe_cli.families.anatomy import ANATOMIES, DENSE, Anatomy, OnDisk, anatomy_of
from smoe_cli.families.backbone import Backbone, VisionGeometry
from smoe_cli.families.checkpoint import Checkpoint, open_checkpoint
from smoe_cli.families.layout import Layout, Slot
from smoe_cli.families.parts import Part, part_of
from smoe_cli.families.read import read_backbone

__all__ = [
    "ANATOMIES",
    "DENSE",
    "Anatomy",
    "Backbone",
    "Checkpoint",
    "Layout",
    "OnDisk",
    "Part",
    "Slot",
    "VisionGeometry",
    "anatomy_of",
    "open_checkpoint",
    "part_of",
    "read_backbone",
]
