"""Opening the page in the user's browser without showing its token to the other users of the machine.

What a program is started with can be read by everybody on most systems, so the browser is not started with the page's
URL. It gets the name of a file that only its owner can read, and which leads on to the page.
"""

from __future__ import annotations

import html
import os
import secrets
import sys
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Thread

_PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>cattune review</title>
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<p><a href="{url}">Open the review page</a></p>
"""


class Doorway:
    """A file of mode 0600 that leads a browser to a URL, from its making to `close`."""

    def __init__(self, url: str) -> None:
        """Write the file.

        Raises:
            OSError: There is no folder for it.
        """
        self.path = _folder() / f"cattune-review-{secrets.token_hex(8)}.html"
        with open(self.path, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(_PAGE.format(url=html.escape(url)))

    def show(self) -> None:
        """Start the browser, where there is a screen to show it on."""
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            return
        Thread(target=webbrowser.open, args=(self.path.as_uri(),), daemon=True).start()

    def close(self) -> None:
        """Delete the file; once is enough."""
        with suppress(OSError):
            self.path.unlink()


def _folder() -> Path:
    """Where browsers find the file: those in snaps see only what is in the home folder, and is not hidden there."""
    with suppress(RuntimeError):  # a user without a home
        home = Path.home()
        if (home / "snap").is_dir() and os.access(home, os.W_OK):
            return home
    return Path(tempfile.gettempdir())
