"""A host for each test, behind one sshd for all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from k3s_lab import Lab, Sshd, make_lab, start_sshd


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    folder = Path(tempfile.mkdtemp(prefix="staging-sshd-"))
    try:
        with start_sshd(folder) as found:
            yield found
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def lab(sshd: Sshd) -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="staging-k3s-lab-"))  # pytest's paths are too long for ssh's sockets
    try:
        yield make_lab(sshd, folder)
    finally:
        shutil.rmtree(folder)
