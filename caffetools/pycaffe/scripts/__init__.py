"""What the original's Python scripts do: one plain function each."""
