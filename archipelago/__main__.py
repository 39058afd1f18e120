"""`python -m archipelago`."""

import sys

from archipelago.cli import main

sys.exit(main())
