"""Questions about fields of messages that protobuf's versions answer in different ways."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

if hasattr(FieldDescriptor, "is_repeated"):

    def is_repeated(field: FieldDescriptor) -> bool:
        """Whether a field holds any number of values."""
        return field.is_repeated

else:  # protobuf before 6.31; later ones warn about label

    def is_repeated(field: FieldDescriptor) -> bool:
        """Whether a field holds any number of values."""
        return field.label == FieldDescriptor.LABEL_REPEATED
