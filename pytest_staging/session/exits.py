"""How our errors end a pytest session: one message, our exit code, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from _pytest.outcomes import Exit

from pytest_staging.model.errors import StagingError


class StagingExit(Exit):
    """Ends the session. pytest prints this class's name before the message."""


StagingExit.__name__ = StagingExit.__qualname__ = "staging"
StagingExit.__module__ = "builtins"


@contextmanager
def exiting() -> Iterator[None]:
    """Turns our errors into the end of the session."""
    try:
        yield
    except StagingError as error:
        raise StagingExit(str(error), returncode=error.exit_code) from None


def leave_out_lineless(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Takes places without a line out of an interrupt's traceback.

    A signal may arrive at an instruction that belongs to no line, and pytest, which counts with each, would end with a
    TypeError of its own instead of the summary.
    """
    excinfo.traceback = excinfo.traceback.filter(lambda entry: entry._rawentry.tb_lineno is not None)
