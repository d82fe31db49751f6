"""Fine-tune causal language models so that they read the tokens that cause the answer, and prove that they do.

Everything public is imported when it is first used, so that `import cattune` costs nothing: torch and transformers are
loaded with `CATConfig` and `CATTrainer`, and never for the data model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cattune.config import CATConfig
    from cattune.errors import CattuneError
    from cattune.examples import CausalLink, Example, Message, Span
    from cattune.loading import load_examples, save_examples
    from cattune.trainer import CATTrainer

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
    "CATConfig": "cattune.config",
    "CATTrainer": "cattune.trainer",
    "CattuneError": "cattune.errors",
    "CausalLink": "cattune.examples",
    "Example": "cattune.examples",
    "Message": "cattune.examples",
    "Span": "cattune.examples",
    "load_examples": "cattune.loading",
    "save_examples": "cattune.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
