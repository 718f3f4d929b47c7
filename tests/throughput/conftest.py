"""The real broker of the metrics' tests is of use here too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "metrics"))  # brokering
