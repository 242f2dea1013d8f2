"""A net written as Python: every method adds a layer and returns the name of its top.

net = Definition("LeNet", "A comment for the top of the file.")
x = net.input("data", 64, 1, 28, 28)
x = net.convolution("conv1", x, 20, 5)
x = net.relu("relu1", x)
text = net.text()
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap

from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2

Filler = dict[str, object]
Params = Sequence[dict[str, object]]

XAVIER: Filler = {"type": "xavier"}
MSRA: Filler = {"type": "msra"}

#: Weights and biases: the bias learns twice as fast and, in most nets, is not decayed.
DOUBLE_RATE: Params = ({"lr_mult": 1}, {"lr_mult": 2})
DOUBLE_RATE_NO_DECAY: Params = ({"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0})

_SHORT = (
    "param|include|shape|test_state|(?:weight_|bias_)?filler"
    "|(?:input|dropout|scale|accuracy|contrastive_loss)_param"
)
_BLOCK = re.compile(rf"^( *)({_SHORT}) \{{\n((?: +[^\n]*[^{{\n]\n)*?)\1\}}$", re.MULTILINE)


def gaussian(std: float, **fields: object) -> Filler:
    return {"type": "gaussian", "std": std, **fields}


def constant(value: float = 0) -> Filler:
    """A constant; zero is the filler's default and is left out."""
    return {"type": "constant", "value": value} if value else {"type": "constant"}


def fold(text: str) -> str:
    """Put short blocks, such as fillers, on one line each; inner ones first."""
    while True:
        folded = _BLOCK.sub(lambda m: f"{m[1]}{m[2]} {{ {' '.join(m[3].split())} }}", text)
        if folded == text:
            return text
        text = folded


def remark(text: str) -> str:
    """Return `text` as comment lines."""
    lines = (line for paragraph in text.splitlines() for line in wrap(paragraph, 110, drop_whitespace=False))
    return "".join(f"# {line}\n" for line in lines)


class Definition:
    """A net under construction.

    comment: the file's first lines. params: multipliers of weights and biases. weights, bias: fillers.
    """

    def __init__(
        self,
        name: str,
        comment: str,
        params: Params = DOUBLE_RATE_NO_DECAY,
        weights: Filler | None = None,
        bias: float = 0,
    ):
        self.parts = [remark(comment), prototxt.dumps(caffe_pb2.NetParameter(name=name))]
        self.params = params
        self.weights = weights or XAVIER
        self.bias = bias

    def text(self) -> str:
        return "".join(self.parts)

    def layer(
        self,
        kind: str,
        name: str,
        bottoms: str | Iterable[str] = (),
        tops: str | Iterable[str] | None = None,
        **fields: object,
    ) -> str:
        """Add any layer; its top has the layer's name unless `tops` says otherwise. Returns the first top."""
        bottoms = [bottoms] if isinstance(bottoms, str) else list(bottoms)
        tops = [name] if tops is None else [tops] if isinstance(tops, str) else list(tops)
        layer = caffe_pb2.LayerParameter(name=name, type=kind, bottom=bottoms, top=tops, **fields)
        self.parts.append(fold(prototxt.dumps(caffe_pb2.NetParameter(layer=[layer]))))
        return tops[0]

    def remark(self, text: str) -> None:
        """Add a comment in front of the next layer."""
        self.parts.append(remark(text))

    def data(
        self,
        source: str,
        batch_size: int,
        phase: str | None,
        tops: Sequence[str] = ("data", "label"),
        name: str = "data",
        backend: str = "LMDB",
        stages: Sequence[str] = (),
        **transform: object,
    ) -> str:
        """Add a Data layer for one phase; `transform` are the fields of transform_param."""
        return self.layer(
            "Data",
            name,
            tops=tops,
            include=[{"phase": phase, "stage": stages}],
            transform_param=transform,
            data_param={"source": source, "batch_size": batch_size, "backend": backend},
        )

    def input(self, name: str, *shape: int) -> str:
        return self.layer("Input", name, input_param={"shape": [{"dim": shape}]})

    def convolution(
        self,
        name: str,
        bottom: str,
        num_output: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
        weights: Filler | None = None,
        bias: float | None = None,
        bias_term: bool = True,
        params: Params | None = None,
        top: str | None = None,
    ) -> str:
        """Add a square convolution; without a bias the weights' multipliers are the defaults unless given."""
        fields: dict[str, object] = {"num_output": num_output, "kernel_size": [kernel]}
        fields |= {"pad": [pad]} if pad else {}
        fields |= {"stride": [stride]} if stride != 1 else {}
        fields |= {"group": group} if group != 1 else {}
        fields |= self._fillers(weights, bias, bias_term)
        params = params if params is not None else self.params if bias_term else ()
        return self.layer("Convolution", name, bottom, top, param=params, convolution_param=fields)

    def inner_product(
        self,
        name: str,
        bottom: str,
        num_output: int,
        weights: Filler | None = None,
        bias: float | None = None,
        params: Params | None = None,
        top: str | None = None,
    ) -> str:
        fields = {"num_output": num_output} | self._fillers(weights, bias, True)
        params = self.params if params is None else params
        return self.layer("InnerProduct", name, bottom, top, param=params, inner_product_param=fields)

    def _fillers(self, weights, bias, bias_term) -> dict[str, object]:
        fields: dict[str, object] = {"weight_filler": weights or self.weights}
        if bias_term:
            return fields | {"bias_filler": constant(self.bias if bias is None else bias)}
        return fields | {"bias_term": False}

    def relu(self, name: str, blob: str) -> str:
        """Add a ReLU in place."""
        return self.layer("ReLU", name, blob, blob)

    def dropout(self, name: str, blob: str, ratio: float) -> str:
        """Add a Dropout in place."""
        return self.layer("Dropout", name, blob, blob, dropout_param={"dropout_ratio": ratio})

    def batch_norm(self, name: str, scale: str, bottom: str, top: str | None = None) -> str:
        """Add a BatchNorm and, in place, the Scale that gives it its learnt factor and bias.

        In place as a whole unless `top` is given.
        """
        blob = self.layer("BatchNorm", name, bottom, bottom if top is None else top)
        return self.layer("Scale", scale, blob, blob, scale_param={"bias_term": True})

    def max_pool(self, name: str, bottom: str, kernel: int, stride: int, **fields: object) -> str:
        return self._pool("MAX", name, bottom, kernel, stride, fields)

    def average_pool(self, name: str, bottom: str, kernel: int, stride: int = 1, **fields: object) -> str:
        return self._pool("AVE", name, bottom, kernel, stride, fields)

    def _pool(self, method, name, bottom, kernel, stride, fields) -> str:
        fields = {"pool": method, "kernel_size": kernel, **fields}
        fields |= {"stride": stride} if stride != 1 else {}
        return self.layer("Pooling", name, bottom, pooling_param=fields)

    def global_average(self, name: str, bottom: str) -> str:
        return self.layer("Pooling", name, bottom, pooling_param={"pool": "AVE", "global_pooling": True})

    def lrn(self, name: str, bottom: str, size: int, alpha: float, **fields: object) -> str:
        fields = {"local_size": size, "alpha": alpha, "beta": 0.75, **fields}
        return self.layer("LRN", name, bottom, lrn_param=fields)

    def concat(self, name: str, bottoms: Iterable[str]) -> str:
        return self.layer("Concat", name, bottoms)

    def add(self, name: str, *bottoms: str) -> str:
        """Add an element-wise sum."""
        return self.layer("Eltwise", name, bottoms)

    def softmax(self, bottom: str) -> str:
        return self.layer("Softmax", "prob", bottom)

    def accuracy(self, name: str, bottom: str, top_k: int = 1) -> str:
        """Add an Accuracy against `label` that only the test net has."""
        fields = {"accuracy_param": {"top_k": top_k}} if top_k != 1 else {}
        return self.layer("Accuracy", name, (bottom, "label"), include=[{"phase": "TEST"}], **fields)

    def softmax_loss(
        self, name: str, bottom: str, top: str | None = None, weight: float | None = None
    ) -> str:
        """Add a SoftmaxWithLoss against `label`."""
        fields = {} if weight is None else {"loss_weight": [weight]}
        return self.layer("SoftmaxWithLoss", name, (bottom, "label"), top, **fields)


def solver(*groups: tuple[str, dict[str, object]]) -> str:
    """Return a solver file: groups of fields in the given order, each under its comment."""
    parts = []
    for words, fields in groups:
        lines = [prototxt.dumps(caffe_pb2.SolverParameter(**{name: value})) for name, value in fields.items()]
        parts.append(remark(words) + "".join(fold(line) for line in lines))
    return "\n".join(parts)
