"""What tests of more than one room use."""

from __future__ import annotations

import pytest

from caffetools.engine.cpu.kept import Kept


@pytest.fixture
def packings(monkeypatch):
    """A list that grows by one whenever weights are packed to be kept."""
    found = []

    def counted(self, packing, w, packed=Kept.packed):
        if (self.arrays.get(packing) or (None,))[0] != self.version:
            found.append(packing)
        return packed(self, packing, w)

    monkeypatch.setattr(Kept, "packed", counted)
    return found
