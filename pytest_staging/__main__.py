"""`python -m pytest_staging` is the same program as `staging-manager`."""

import sys

from pytest_staging.cli import main

if __name__ == "__main__":
    sys.exit(main())
