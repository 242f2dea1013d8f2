"""From stored samples to batches: decoded, resized, augmented, transformed, and made ahead by threads."""
