"""Where a model or a tokenizer comes from, and what is wrong where it cannot be loaded.

Code in a model's folder never runs, and is never asked about, unless `trust_remote_code` says that it may:
transformers is told so in every call, since left alone it asks on the terminal and takes what standard input says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from cattune.errors import ConfigError
from cattune.wording import listed

_REASON = 200
"""What another library says is wrong is quoted up to this many characters."""

_CONFIGS = ("config.json", "adapter_config.json")
"""A folder with one of them holds a model or an adapter."""


class NotThereError(ConfigError):
    """There is no such folder, and no such name on the hub or in its cache."""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, or a name on the hub.

    Args:
        name: as it was given.
        path: what transformers takes: the folder's absolute path, or the name.
        is_folder: whether it is a folder.
        trust_remote_code: whether code that it brings along may run.
    """

    name: str
    path: str
    is_folder: bool
    trust_remote_code: bool

    def has(self, *files: str) -> bool:
        """Whether it is a folder that holds one of the files."""
        return self.is_folder and any(os.path.exists(os.path.join(self.path, file)) for file in files)

    def load(self, factory: Any, what: str, **options: Any) -> Any:
        """`factory.from_pretrained` of it, which stays off the network where it is a folder.

        Args:
            factory: `AutoTokenizer`, `AutoModelForCausalLM`, ...
            what: what that is, in words.
            **options: for `from_pretrained`.

        Raises:
            ConfigError: as `reading`.
        """
        allowed = {"trust_remote_code": self.trust_remote_code, "local_files_only": self.is_folder}
        with self.reading(what):
            return factory.from_pretrained(self.path, **allowed, **options)

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Says in words of our own what another library finds wrong while it reads this.

        Raises:
            NotThereError: the hub does not give it.
            ConfigError: it brings code that may not run, or what is there cannot be read.
        """
        try:
            yield
        except Exception as error:  # a damaged folder raises what its reader raises; so do the hub and the network
            if "trust_remote_code" in str(error) and not self.trust_remote_code:
                raise ConfigError(
                    f"the {what} {self.name!r} brings code of its own, which does not run unless you allow it: read "
                    f"the code in {self.path}, then say --trust-remote-code (in a file trust_remote_code: true)"
                ) from error
            reason = shorten(str(error), _REASON, placeholder=" ...") or type(error).__name__
            if self.is_folder:
                raise ConfigError(f"no {what} can be loaded from {self.name!r} ({reason}); {self._advice()}") from error
            raise NotThereError(
                f"there is no folder {self.name!r}, and no {what} of this name can be loaded from the model hub "
                f"({reason}); name a folder that save_pretrained wrote, or a model (owner/name) that the hub has; it "
                "needs the network, or an earlier download"
            ) from error

    def _advice(self) -> str:
        """What to name instead; in a run's folder that was never finished, the models are one level deeper."""
        files = [Path(self.path), *Path(self.path).glob("*")]
        if closed := [file.name for file in files if not os.access(file, os.R_OK)]:
            return f"you may not read {listed(closed, 4)}: change the permissions"
        inner = {file.parent.name for file in Path(self.path).glob("*/*config.json") if file.name in _CONFIGS}
        if not inner or self.has(*_CONFIGS):
            return "expected what save_pretrained writes"
        return f"there is none in the folder itself; name one of those in it: {listed(sorted(inner), 4)}"


def locate(name: str | os.PathLike[str], what: str, trust_remote_code: bool = False) -> Source:
    """The folder of this name, or else the name as one on the hub.

    Raises:
        NotThereError: it can only be a folder, and there is none.
        ConfigError: it is a file.
    """
    text = os.fspath(name)
    path = os.path.expanduser(text)
    if os.path.isdir(path):
        return Source(text, os.path.abspath(path), True, trust_remote_code)
    expected = f"name a folder with a {what} that save_pretrained wrote, or a {what} on the model hub (owner/name)"
    if os.path.exists(path):
        raise ConfigError(f"{text!r} is a file; {expected}")
    if not path.strip() or text.startswith((".", "~", os.sep)) or len(Path(text).parts) > 2:
        raise NotThereError(f"the folder {text!r} does not exist; {expected}")
    return Source(text, text, False, trust_remote_code)
