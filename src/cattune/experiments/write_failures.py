"""Why a file could not be written: the libraries that write models and checkpoints each say it in another way."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than files may be here (see ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
    errno.EIO: "the disk failed (input/output error)",
    errno.ENODEV: "the disk is gone",
    errno.ESTALE: "the network drive is gone",
}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors and tokenizers, which are Rust, end what they say
_OF_TORCH = ("PytorchStreamWriter", "inline_container", "unexpected pos")  # it gives no errno
_PROBE_BYTES = 1 << 20


def write_failure(error: BaseException, folder: Path, size: int) -> str | None:
    """What kept a file from being written, in words; None where the error is of another kind.

    Args:
        error: what was raised; what it was raised from is looked at too.
        folder: where files were being written.
        size: bytes that were going to be written.
    """
    without_number = False
    for link in _chain(error):
        text = str(link)
        found = _OS_ERROR.search(text)
        number = link.errno if isinstance(link, OSError) else int(found[1]) if found else None
        if number in _REASONS:
            return _REASONS[number]
        if number == errno.ENOENT and not folder.is_dir():
            return "the folder is gone"
        without_number |= any(words in text for words in _OF_TORCH)
    return _reason_now(folder, size) if without_number else None


def _reason_now(folder: Path, size: int) -> str:
    """Why writing fails, found by trying: for an error that does not tell."""
    probe = folder / f".cattune-{secrets.token_hex(8)}.tmp"
    try:
        with probe.open("xb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    finally:
        probe.unlink(missing_ok=True)
    if free < size:
        return _REASONS[errno.ENOSPC]
    return (
        f"a file could not be written to its end; {free / 1e9:.1f} GB are free, so a quota or a limit may be the cause"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
