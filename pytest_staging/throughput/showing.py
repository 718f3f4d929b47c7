"""The status as a terminal shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render_status(status: Mapping[str, Any], override: Mapping[str, Any]) -> str:
    """A summary, then a line per class and per queue."""
    lines = [_summary(status)]
    if status["fail_safe"]:
        lines.append(f"why: {status['fail_safe_reason']}")
    if override["active"]:
        lines.append(
            f"override: {override['preset']} by {override['who']}, "
            f"{override['remaining_seconds']:g} s left (until {override['expires_at']})"
        )
    lines += [_window(status), ""]
    lines += _table(
        ("CLASS", "JOBS", "FLOOR", "ADMISSION", "WHY"),
        [
            (
                one["class_name"],
                one["active_parallelism"],
                one["minimum_floor"],
                "deferred" if one["deferred_admission"] else "open",
                one["reason"],
            )
            for one in status["class_states"]
        ],
    )
    lines.append("")
    lines += _table(
        ("QUEUE", "MESSAGES", "WARNING", "CRITICAL", "SEVERITY"),
        [
            (
                one["queue"],
                "?" if one["queued_messages"] is None else one["queued_messages"],
                one["warning_threshold"],
                one["critical_threshold"],
                one["severity"],
            )
            for one in status["queue_states"]
        ],
    )
    return "\n".join(lines)


def _summary(status: Mapping[str, Any]) -> str:
    if status["fail_safe"]:
        what = f"FAIL-SAFE: {status['active_preset']} is in force"
    elif status["policy_active"]:
        what = f"{status['active_preset']} is in force"
    else:
        what = "no policy is active"
    return f"{what}; set: {status['requested_preset']}; pressure: {status['queue_pressure_level']}"


def _window(status: Mapping[str, Any]) -> str:
    lasted = f"pressure has lasted {status['sustained_seconds']:g} of {status['sustained_seconds_required']:g} s"
    return f"{lasted}; cooldown left: {status['cooldown_remaining_seconds']:g} s"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    texts = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
