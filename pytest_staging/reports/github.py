"""What GitHub shows of a campaign: the step's summary in markdown, and annotations of what did not hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.cases import subject, verdict_outcome
from pytest_staging.reports.markdown import escape, render_headline, render_missing, render_table, show_verdict

SUMMARY_BYTES = 1024 * 1024
"""What GitHub takes of one step's summary; it refuses a longer one whole."""
ANNOTATIONS = 10
"""How many annotations of one kind GitHub shows of one step."""
LONGEST_MESSAGE = 2000
WHERE = "aggregate-comparison.md in the campaign's folder"


def render_github(record: CampaignRecord) -> str:
    """The step's summary of a finished campaign."""
    return render_step_summary(record.aggregate)


def render_step_summary(aggregate: Mapping[str, Any], limit_bytes: int = SUMMARY_BYTES) -> str:
    """Verdict, table, reasons, what is missing; cut at a line, with a notice, when it is more than `limit_bytes`.

    Empty when not even the notice has room.
    """
    return fit(_lines(aggregate), limit_bytes)


def _lines(aggregate: Mapping[str, Any]) -> Iterator[str]:
    against = ", ".join(aggregate["candidate_slugs"])
    yield f"## {against} against {aggregate['baseline_slug']}"
    yield ""
    for line in render_headline(aggregate):
        yield from (escape(line), "")
    yield from render_table(aggregate).splitlines()
    yield ""
    if not aggregate["smoke"]:
        yield from ("### Reasons", "")
        yield from (
            f"- `{subject(row)}`: {show_verdict(row)}: {escape(row['reason'])}"
            for row in sorted(aggregate["rows"], key=_urgency)
        )
        yield ""
    if missing := render_missing(aggregate["missing"]):
        yield from ("### Missing", "", *(f"- {escape(line)}" for line in missing), "")
    yield f"Campaign `{aggregate['campaign_id']}`"
    yield ""


def _urgency(row: Mapping[str, Any]) -> int:
    """What did not hold comes first, so that a cut takes the rest."""
    return {"failed": 0, "skipped": 1, "passed": 2}[verdict_outcome(row, "inconclusive")]


def fit(lines: Iterable[str], limit_bytes: int) -> str:
    """Whole lines, together at most `limit_bytes` in UTF-8; the last one then says how many are left out."""
    sized = [(line, len(line.encode()) + 1) for line in lines]
    if sum(size for _, size in sized) <= limit_bytes:
        return "".join(f"{line}\n" for line, _ in sized)
    room = limit_bytes - len(_cut_notice(len(sized)).encode())
    kept: list[str] = []
    for line, size in sized:
        room -= size
        if room < 0:
            break
        kept.append(line)
    notice = _cut_notice(len(sized) - len(kept))
    return "".join(f"{line}\n" for line in kept) + notice if len(notice.encode()) <= limit_bytes else ""


def _cut_notice(lines: int) -> str:
    return f"\n**Cut here:** {lines} more lines are over GitHub's limit of 1 MiB. All of it is in {WHERE}.\n"


def render_annotations(aggregate: Mapping[str, Any], file: str, fail_on: str) -> list[str]:
    """Workflow commands: an error per verdict that fails by `fail_on`, a warning per cell without a result.

    `file` is the benchmark's path, relative to the repository. GitHub shows ten of a kind; the tenth says how many
    more there are.
    """
    rows = [] if aggregate["smoke"] else aggregate["rows"]
    errors = [
        (f"{subject(row)}: {row['verdict']}", row["reason"])
        for row in rows
        if verdict_outcome(row, fail_on) == "failed"
    ]
    warnings = [
        (f"{one['cell']} has no result", one["reason"]) for one in aggregate["missing"] if one["metric"] is None
    ]
    return [*_commands("error", errors, file), *_commands("warning", warnings, file)]


def _commands(kind: str, found: list[tuple[str, str]], file: str) -> Iterator[str]:
    shown = found if len(found) <= ANNOTATIONS else found[: ANNOTATIONS - 1]
    if rest := found[len(shown) :]:
        names = ", ".join(title for title, _ in rest)
        shown = [*shown, (f"{len(rest)} more", f"{names}. All of it is in {WHERE}.")]
    for title, message in shown:
        yield f"::{kind} file={_property(file)},title={_property(title)}::{_data(message[:LONGEST_MESSAGE])}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
