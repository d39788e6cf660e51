"""``python -m cmkd``, the same as ``cmkd``."""

import sys

from cmkd.cli import main

sys.exit(main())
