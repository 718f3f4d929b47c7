"""Two versions of a service side by side, the same benchmark N times against each, a verdict with known error rates."""

__version__ = "0.1.0"
