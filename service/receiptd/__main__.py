"""`python -m receiptd` is `receiptd`."""

import sys

from receiptd.cli import main

if __name__ == "__main__":
    sys.exit(main())
