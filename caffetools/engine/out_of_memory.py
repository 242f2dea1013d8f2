"""The error of a GPU whose memory does not suffice, apart from the engine: nets know it without loading the engine."""

from __future__ import annotations

from caffetools.glog import FatalError


class OutOfMemory(FatalError):
    """A GPU has no room for what is asked for.

    gpu: its number. needed, free: bytes. asked_by: who needs it. advice: a sentence.
    """

    def __init__(
        self, gpu: int, needed: int, free: int, asked_by: str = "", advice: str = "A smaller batch needs less."
    ):
        for_whom = f" for {asked_by}" if asked_by else ""
        super().__init__(
            f"GPU {gpu} is out of memory: {mebibytes(needed)} are needed at once{for_whom}, "
            f"{mebibytes(free)} are free. {advice}"
        )
        self.gpu, self.needed, self.free, self.asked_by = gpu, needed, free, asked_by

    def named(self, asked_by: str, advice: str) -> OutOfMemory:
        """Return the error with more in its text; who was named first stays."""
        return self if self.asked_by else OutOfMemory(self.gpu, self.needed, self.free, asked_by, advice)


def mebibytes(size: int) -> str:
    """Return a size as text: `12.5 MiB`."""
    return f"{size / 2**20:.1f} MiB"
