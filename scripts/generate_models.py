"""Write the prototxts of models/ (all but lenet, which is written by hand): python -m scripts.generate_models

The nets are defined in scripts/zoo, a file a family. A net for training and the one for use share their body
there, and blocks that a paper repeats dozens of times are written once.
"""

from __future__ import annotations

from pathlib import Path

from scripts.zoo import alexnet, cifar10, densenet, googlenet, mnist, mobilenet, nin, resnet, squeezenet, vgg

MODELS = Path(__file__).parents[1] / "models"
FAMILIES = (mnist, cifar10, alexnet, googlenet, nin, vgg, squeezenet, resnet, mobilenet, densenet)


def files() -> dict[str, str]:
    """Return the text of every file by its path below models/."""
    return {path: text for family in FAMILIES for path, text in family.files()}


def main() -> None:
    for path, text in files().items():
        (MODELS / path).parent.mkdir(exist_ok=True)
        (MODELS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
