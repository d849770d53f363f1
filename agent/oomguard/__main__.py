"""`python -m oomguard`: the same as the `oomguard` command."""

import sys

from oomguard.cli import main

sys.exit(main())
