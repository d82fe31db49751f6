"""Attention of selected rows, captured beside any forward pass that goes through transformers' attention interface.

The model's own kernel runs untouched. For the selected rows alone the softmax is computed again from the queries and
keys that the kernel got, so no S x S map ever exists. `docs/capture.md` shows how.
"""

from cattune.attention.architecture import attention_modules, is_checkpointing, is_compiled, layer_masks, sees_padding
from cattune.attention.backends import check_backend
from cattune.attention.capture import MaskGroup, RowCapture
from cattune.attention.inspect import inspect_rows
from cattune.attention.rows import RowMass
from cattune.attention.selection import LayerMask, RowSelection
from cattune.attention.self_check import self_check

__all__ = [
    "LayerMask",
    "MaskGroup",
    "RowCapture",
    "RowMass",
    "RowSelection",
    "attention_modules",
    "check_backend",
    "inspect_rows",
    "is_checkpointing",
    "is_compiled",
    "layer_masks",
    "sees_padding",
    "self_check",
]
