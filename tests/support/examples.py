"""How many examples a property test tries."""

from __future__ import annotations

import os

_THOROUGH = os.environ.get("TIDEGATE_TEST_THOROUGH") == "1"


def examples(number: int) -> int:
    """This many in `make test-slow`, which sets TIDEGATE_TEST_THOROUGH=1; else a fifth."""
    return number if _THOROUGH else max(5, number // 5)
