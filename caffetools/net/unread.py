"""Settings that a net file gives to a layer that does not read them: said once, as the original never did."""

from __future__ import annotations

from caffetools.glog import warning
from caffetools.layer import Layer

# Fields from the time before `transform_param`. Old files are upgraded when they are read; in a layer of the current
# format the original took no notice of them.
MOVED = ("scale", "mean_file", "crop_size", "mirror")
OLD_HOMES = {
    "data_param": MOVED,
    "image_data_param": MOVED,
    "window_data_param": ("mean_file", "crop_size", "mirror"),  # its `scale` is read where it stands
}


def warn_of_unread_settings(layer: Layer) -> None:
    """Log a W line for each message of a layer's settings that its type does not read, and for each moved field."""
    for field, message in layer.param.ListFields():
        if not field.name.endswith("_param"):
            continue
        if field.name not in layer.settings():
            warning(f"{field.name} has no effect on layer '{layer.name}': {layer.type} does not read it")
        for name in OLD_HOMES.get(field.name, ()):
            if message.HasField(name):
                warning(
                    f"{field.name} {{ {name} }} has no effect on layer '{layer.name}': write it into transform_param"
                )
