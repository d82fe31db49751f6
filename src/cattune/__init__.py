"""Fine-tune causal language models so that they read the tokens that cause the answer, and prove that they do.

Everything public is imported when it is first used, so that `import cattune` costs nothing: torch and transformers are
loaded with `CATConfig` and `CATTrainer`, and never for the data model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cattune.lazy import lazily

if TYPE_CHECKING:
    from cattune.data.examples import CausalLink, Example, Message, Span
    from cattune.errors import CattuneError
    from cattune.formats.loading import load_examples, save_examples
    from cattune.training.config import CATConfig
    from cattune.training.trainer import CATTrainer

__version__ = "0.1.0"

__all__ = [
    "CATConfig",
    "CATTrainer",
    "CattuneError",
    "CausalLink",
    "Example",
    "Message",
    "Span",
    "__version__",
    "load_examples",
    "save_examples",
]

_MODULES = {
    "CATConfig": "cattune.training.config",
    "CATTrainer": "cattune.training.trainer",
    "CattuneError": "cattune.errors",
    "CausalLink": "cattune.data.examples",
    "Example": "cattune.data.examples",
    "Message": "cattune.data.examples",
    "Span": "cattune.data.examples",
    "load_examples": "cattune.formats.loading",
    "save_examples": "cattune.formats.loading",
}

__getattr__, __dir__ = lazily(__name__, _MODULES)
