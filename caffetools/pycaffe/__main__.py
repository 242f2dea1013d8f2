"""`python -m caffetools.pycaffe SCRIPT ARGS`: run a script that was written for the original's Python interface."""

from __future__ import annotations

import os
import runpy
import sys

from caffetools.pycaffe.install import install


def main() -> None:
    """Run the script as `python SCRIPT ARGS` would, where `import caffe` means this package."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(
            "usage: python -m caffetools.pycaffe SCRIPT [ARGS]\nIn the script `import caffe` means caffetools."
        )
    script = sys.argv[1]
    if not os.path.exists(script):
        sys.exit(f"{script}: no such file")
    install()
    sys.argv[:] = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
