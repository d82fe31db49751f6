"""Attention of selected rows, captured beside any forward pass that goes through transformers' attention interface.

The model's own kernel runs untouched. For the selected rows alone the softmax is computed again from the queries and
keys that the kernel got, so no S x S map ever exists.
"""

from cattune.attention.capture import CAPTURABLE, RowCapture, attention_modules, capturing, check_capturable
from cattune.attention.inspect import inspect_rows
from cattune.attention.rows import RowSelection, visible_keys

__all__ = [
    "CAPTURABLE",
    "RowCapture",
    "RowSelection",
    "attention_modules",
    "capturing",
    "check_capturable",
    "inspect_rows",
    "visible_keys",
]
