"""The suite under bench/ is no package; its tests import it by path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "bench"))
