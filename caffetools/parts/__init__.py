"""What several layer types share: windows, broadcasting, losses, recurrence, and the view that Python code gets."""
