"""`python -m receiptd` is `receiptd`."""

import sys

from receiptd.cli import main

sys.exit(main())
