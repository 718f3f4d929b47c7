"""Where a cell runs. Each module is one kind of place behind the Target Protocol."""
