"""The formats in which an engine multiplies; sums, weights and what is stored between layers are float32 in each."""

from __future__ import annotations

FLOAT32, FLOAT16, BFLOAT16 = "FLOAT32", "FLOAT16", "BFLOAT16"
PRECISIONS = FLOAT32, FLOAT16, BFLOAT16
