"""Unit tests stay quick: about a minute for all of them."""

import sys
from pathlib import Path

import pytest

_UNITS = Path(__file__).parent


def test_no_unit_test_imports_torch(request: pytest.FixtureRequest) -> None:
    """It takes ten seconds of each process. What computes with it is in tests/tensors."""
    alone = all(item.path.is_relative_to(_UNITS) for item in request.session.items)
    assert not alone or "torch" not in sys.modules, (
        "something below tests/unit imports torch: put the test into tests/tensors, or what it tests into a module "
        "that needs no torch"
    )
