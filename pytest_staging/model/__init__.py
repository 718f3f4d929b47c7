"""Frozen data, enums, errors and Protocols: what every other room speaks about. Imports nothing of ours."""
