"""Where hosts come from before a campaign, and where they go after it."""
