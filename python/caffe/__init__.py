"""`import caffe` for scripts that put this folder on their path, as those in a checkout of the original do.

It is `caffetools.pycaffe`, of this checkout, by the name of the original.
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(_ROOT)  # where there is no caffetools installed

from caffetools.pycaffe import install  # noqa: E402

del sys.modules[__name__]  # makes room for what takes this module's place
install()
