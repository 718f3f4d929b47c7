"""Options that the test suite itself needs."""

pytest_plugins = ["pytester"]
