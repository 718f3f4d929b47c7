"""What versions are built into: made once per version and mode, recognised by fingerprint, kept in a manifest."""
