"""One plain function per command: no flags, no printing but through the log."""
