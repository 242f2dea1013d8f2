"""A net: layers wired by blobs, with forward and backward passes and weights that go in and out."""

from caffetools.net.net import Net, load_net

__all__ = ["Net", "load_net"]
