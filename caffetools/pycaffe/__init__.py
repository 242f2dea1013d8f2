"""The original's Python interface: `import caffetools.pycaffe as caffe`."""

from caffetools.views import Layer

__all__ = ["Layer"]
