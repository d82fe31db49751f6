"""From an example to a batch: fields, one text, its tokens, query rows with their causal keys, padded tensors.

What other rooms call is imported from here, when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cattune.lazy import lazily

if TYPE_CHECKING:
    from cattune.supervision.collator import CausalCollator
    from cattune.supervision.dataset import encode
    from cattune.supervision.report import AlignmentReport
    from cattune.supervision.rows import IGNORED, encode_examples

__all__ = ["IGNORED", "AlignmentReport", "CausalCollator", "encode", "encode_examples"]

_MODULES = {
    "AlignmentReport": "cattune.supervision.report",
    "CausalCollator": "cattune.supervision.collator",
    "IGNORED": "cattune.supervision.rows",
    "encode": "cattune.supervision.dataset",
    "encode_examples": "cattune.supervision.rows",
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
