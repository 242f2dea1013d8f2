#!/usr/bin/env python3
"""The command `train_net`, where users of the original look for it."""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from caffetools.cli.train_net import command  # noqa: E402

# Processes that are started for further GPUs read this file as well.
if __name__ == "__main__":
    command.main()
