"""What the log says, as a list of texts."""

from __future__ import annotations

import pytest


@pytest.fixture
def log(capsys):
    """A function that returns the text of the lines logged since its last call, without their prefixes."""

    def texts() -> list[str]:
        lines = capsys.readouterr().err.splitlines()
        return [line.split("] ", 1)[1] for line in lines if "] " in line]

    return texts
