"""A campaign's plan, its cells and its aggregates. Adapters arrive as arguments."""
