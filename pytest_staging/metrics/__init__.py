"""Metric sources: what is read beside the load tool, over one load window."""
