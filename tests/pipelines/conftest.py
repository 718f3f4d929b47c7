"""Modules that these tests share with others."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [path for folder in ("campaign", "session", "verdict") if (path := str(TESTS / folder)) not in sys.path]
