"""`python -m receiptd.send` is `send-with-receipt`."""

import sys

from receiptd.send import main

sys.exit(main())
