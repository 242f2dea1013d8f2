"""The command line: one thin click module per program.

A module declares flags, help and examples, and calls a plain function of ``caffetools.tools``, imported
inside the command's body so that ``--help`` and shell completion stay instant. Flags follow gflags' rules
(``flags``), help has its layout (``usage``), and failures end with the original's exit codes (``failures``).
"""
