"""Detector: classifies windows of pictures, as R-CNN does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from caffetools.pycaffe import io
from caffetools.pycaffe.classifier import PictureNet
from caffetools.pycaffe.net import Path


class Detector(PictureNet):
    """Gives the outputs of a net for windows of pictures.

    mean, input_scale, raw_scale, channel_swap: settings of the transformer. context_pad: how many pixels of the
    net's input, on each side, show what is around the window.
    """

    def __init__(
        self,
        model_file: Path,
        pretrained_file: Path,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(
        self, images_windows: Iterable[tuple[Path, Iterable[Sequence[float]]]]
    ) -> list[dict[str, Any]]:
        """Return what the net says about windows.

        images_windows: picture files, each with its windows (ymin, xmin, ymax, xmax), the latter two exclusive.
        Return a dict for each window, with it as `window`, the first output as `prediction`, and `filename`.
        """
        detections: list[dict[str, Any]] = []
        crops = []
        for filename, windows in images_windows:
            picture = io.load_image(filename, self.takes_color)
            for window in windows:
                crops.append(self.crop(picture, np.asarray(window)))
                detections.append({"window": window, "prediction": None, "filename": filename})
        if crops:
            for detection, prediction in zip(detections, self.outputs_of(crops), strict=True):
                detection["prediction"] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Sequence[Path]) -> list[dict[str, Any]]:
        """Return what the net says about the windows that selective search proposes.

        They come from the Python module selective_search_ijcv_with_python, which calls MATLAB.
        """
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError:
            raise ImportError(
                "Selective search needs the module selective_search_ijcv_with_python (sergeyk on GitHub) and MATLAB; "
                "give a list of windows to detect_windows instead"
            ) from None
        names = [str(name) for name in image_fnames]
        windows = selective_search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def crop(self, im: np.ndarray, window: Sequence[float]) -> np.ndarray:
        """Cut a window out of a picture (H, W, channels).

        With context it has the size of the net's input: the window with `context_pad` pixels around it, and the mean
        where the picture ends. Errors: ValueError for a window that has no pixel of the picture.
        """
        window = np.asarray(window)
        if not self.context_pad:
            top, left, bottom, right = (int(value) for value in window)
            piece = im[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if not piece.size:
                raise ValueError(f"The window {window.tolist()} lies outside of a picture of {im.shape[:2]}")
            return piece
        return self._crop_with_context(im, window)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set how much of its context a window shows; call it again after a change of the transformer.

        Errors: ValueError for a context that leaves no room for the window.
        """
        name = self.inputs[0]
        to_picture = np.argsort(self.transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].shape[1:])[to_picture]
        if context_pad and not 0 < 2 * context_pad < min(self.crop_dims[:2]):
            raise ValueError(
                f"A context of {context_pad} pixels on each side leaves no room in {tuple(self.crop_dims[:2])}"
            )
        self.context_pad = context_pad
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        if name in self.transformer.mean:
            # What becomes zero in the net: the mean, before the transformer has worked on it.
            mean = np.broadcast_to(self.transformer.mean[name], self.blobs[name].shape[1:]).transpose(
                to_picture
            )
            if name in self.transformer.channel_swap:
                mean = mean[:, :, np.argsort(self.transformer.channel_swap[name])]
            self.crop_mean[...] = mean / self.transformer.raw_scale.get(name, 1)

    def _crop_with_context(self, im, window):
        size = int(self.crop_dims[1])  # of a square
        # Ends count as pixels of the window here, and only here: so the nets for this interface were trained.
        extent = window[2:] - window[:2] + 1
        half = extent / 2 * size / (size - 2 * self.context_pad)
        centre = window[:2] + extent / 2
        begin, end = np.round(centre - half), np.round(centre + half)
        scale = size / (end - begin + 1)
        pad = np.round(np.maximum(0, -begin) * scale).astype(int)
        begin, end = (np.clip(corner, 0, im.shape[:2]).astype(int) for corner in (begin, end))
        if (end <= begin).any():
            raise ValueError(f"The window {window.tolist()} lies outside of a picture of {im.shape[:2]}")
        inner = np.minimum(np.round((end - begin + 1) * scale).astype(int), self.crop_dims[:2] - pad)
        crop = self.crop_mean.copy()
        if (inner > 0).all():
            piece = io.resize_image(im[begin[0] : end[0], begin[1] : end[1]], inner)
            crop[pad[0] : pad[0] + inner[0], pad[1] : pad[1] + inner[1]] = piece
        return crop
