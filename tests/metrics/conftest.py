"""One broker for all tests that need a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from brokering import Broker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("rabbitmq")) as found:
        yield found
