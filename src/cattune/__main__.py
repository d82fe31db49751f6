"""`python -m cattune` is the same as `cattune`."""

import sys

from cattune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
