"""Computing in float32 inside torch.autocast."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def without_autocast(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function, computed in float32 also inside torch.autocast; outside of it, unchanged.

    For geometry and logits: bfloat16 has 8 significant bits, which rounds a point 60 m ahead by up
    to 0.125 m and an image location by up to a pixel.
    """

    @wraps(function)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        given = (*args, *kwargs.values())
        device = next(item.device.type for item in given if isinstance(item, torch.Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        named = {name: _widened(item) for name, item in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return function(*map(_widened, args), **named)  # type: ignore[arg-type]

    return run


def _widened(item: object) -> object:
    """A tensor of 16-bit floats as float32; everything else as it is."""
    if isinstance(item, torch.Tensor) and item.dtype in (torch.bfloat16, torch.float16):
        return item.float()
    return item
