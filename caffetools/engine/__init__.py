"""Where arrays live and how they are multiplied: `cpu` holds the kernels for the host."""
