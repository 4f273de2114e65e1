"""`python -m lsif_sdk`: the command `lsif`."""

import sys

from lsif_sdk.cli import main

if __name__ == "__main__":
    sys.exit(main())
