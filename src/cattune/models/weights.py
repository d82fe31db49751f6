"""Load a model's weights, all of them from its files.

transformers fills what a file lacks with random numbers, and says so only in a warning: a damaged copy, or the files of
another kind of model, would be trained and scored as if nothing were wrong.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cattune.errors import ConfigError
from cattune.models.source import Source
from cattune.wording import counted, listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_NAMED = 3


def load_weights(source: Source, what: str, **options: Any) -> PreTrainedModel:
    """The causal language model of a folder or of the hub; weights in its files that it has no place for are reported.

    Args:
        source: where it is.
        what: what that is, in words.
        **options: for `from_pretrained`.

    Raises:
        ConfigError: it cannot be read, lacks weights, or has them in other sizes than its configuration says.
    """
    from transformers import AutoModelForCausalLM

    # Sizes that do not fit are to be named here, with the weights.
    info = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model: PreTrainedModel
    model, found = source.load(AutoModelForCausalLM, what, **info, **options)
    kind = type(model).__name__
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"{source.name!r} lacks {counted(len(missing), 'weight')} of {kind}: {listed(missing, _NAMED)}; they would "
            "be random numbers; copy or download the model again, or name a causal language model"
        )
    if other := sorted(found["mismatched_keys"]):
        name, there, here = other[0]
        raise ConfigError(
            f"{source.name!r} has {counted(len(other), 'weight')} of other sizes than its config.json says, for "
            f"instance {name}, {tuple(there)} in the file and {tuple(here)} by config.json; copy or download it again"
        )
    if unused := sorted(found["unexpected_keys"]):
        unused_weights = counted(len(unused), "weight in its files has", "weights in its files have")
        logger.warning("%s: %s no place in %s: %s", source.name, unused_weights, kind, listed(unused, _NAMED))
    return model
