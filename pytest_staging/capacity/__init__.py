"""Capacity profiles as rules: compose files resolved as Compose does, a profile checked against them, readiness judged.

Pure: files come through a function that the caller gives, and no engine is asked.
"""
