"""The precision that matrix products are computed in."""

from __future__ import annotations

from typing import Literal

import torch

from florence_data import InputError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def mixed_precision(precision: Precision) -> str:
    """What accelerate calls a precision; `auto` is the best that the device multiplies fast.

    Raises `InputError` for float16 without a GPU, where accelerate would compute in float32.
    """
    if precision == "auto":
        if not torch.cuda.is_available():
            return "no"
        # bfloat16 is emulated before compute capability 8 (T4, V100).
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    if precision == "float16" and not torch.cuda.is_available():
        raise InputError(
            "precision is float16, which needs a CUDA device, and there is none here; auto, "
            "float32 and bfloat16 are accepted"
        )
    return {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[precision]
