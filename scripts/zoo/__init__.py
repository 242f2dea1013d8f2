"""The nets of models/, defined in Python. Each module's `files()` yields (path below models/, text)."""
