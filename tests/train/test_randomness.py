"""Random states are put back."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest
import torch

from smoe_cli.train.randomness import random_state_kept


def drawn() -> list[Any]:
    numbers = [random.random(), random.gauss(0, 1), float(numpy.random.standard_normal()), *torch.rand(3).tolist()]
    if torch.accelerator.is_available():
        numbers += torch.rand(3, device=torch.accelerator.current_accelerator()).tolist()
    return numbers


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_drawn_inside_is_never_missed_outside(fails: bool) -> None:
    """Also the second half of a pair of normal numbers that a generator keeps back, and also after an error."""
    random.seed(3)
    numpy.random.seed(3)
    torch.manual_seed(3)
    random.gauss(0, 1)
    numpy.random.standard_normal()
    before = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    first = drawn()
    random.setstate(before[0])
    numpy.random.set_state(before[1])
    torch.manual_seed(3)
    try:
        with random_state_kept():
            inside = drawn()
            torch.manual_seed(1)
            numpy.random.seed(1)
            random.seed(1)
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert inside == first
    assert drawn() == first
