"""Small checkpoints of the families."""

from tests.families.conftest import written

__all__ = ["written"]
