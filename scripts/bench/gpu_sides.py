"""The two sides of `bench_gpu`: a net of ours on the GPU, and the same in PyTorch."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch  # first, as in bench_nets

from caffetools import glog
from caffetools.engine import devices
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from scripts.bench.bench_nets import NETS, feed, read
from scripts.bench.torch_net import TorchNet

#: What makes a number of passes on our side, and on PyTorch's, and a result of the first pass of each.
Sides = tuple[Callable[[int], None], Callable[[int], None], tuple[float, float]]
#: In a dry run, a picture's sizes and what the numbers of outputs are divided by.
DRY_PICTURES = {"lenet": (1, 16, 16), "cifar10_quick": (3, 16, 16)}
DRY_DIVISOR = 8


def repeated(function: Callable) -> Callable[[int], None]:
    """Return a function that calls another a number of times."""

    def run(count):
        for _ in range(count):
            function()

    return run


class Bench:
    """Makes the sides. gpu: its number. tf32: whether both may use it. dry: in the simulator, PyTorch on the CPU."""

    too_large = (OutOfMemory, torch.OutOfMemoryError)

    def __init__(self, gpu: int, tf32: bool, dry: bool):
        why = devices.why_no_gpu()
        if why:
            raise SystemExit(f"No GPU: {why}. --dry_run shows the benchmark without one.")
        self.dry = dry
        self.device = torch.device("cpu" if dry else f"cuda:{gpu}")
        if not dry and not torch.cuda.is_available():
            raise SystemExit("This PyTorch has no CUDA (pip install caffetools[bench] on Linux brings one that has)")
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        glog.flags.minloglevel = glog.ERROR
        self.engine = devices.gpu_engine(gpu)
        self.engine.tf32 = tf32

    def title(self) -> str:
        """Say what is measured with what."""
        digits = "TF32 on both sides" if self.engine.tf32 else "float32 without TF32 on both sides"
        cudnn = torch.backends.cudnn.version() if not self.dry else "none"
        return f"{self.engine.name}, {digits}; PyTorch {torch.__version__}, its cuDNN {cudnn}"

    def settle(self) -> None:
        """Wait until the device is idle."""
        self.engine.synchronise()
        if not self.dry:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Let go of the memory of nets that nobody has any longer."""
        gc.collect()
        if not self.dry:
            torch.cuda.empty_cache()

    def forward(self, name: str, batch: int) -> Sides:
        """Return the sides of a forward pass in the TEST phase."""
        _, deploy, _, picture, classes = NETS[name]
        net = Net(self._read(name, deploy, TEST, batch, picture), Context(engine=self.engine), plan=True)
        for layer in net.layers:
            if layer.type == "BatchNorm":  # the statistics of a net that has seen normalised data
                for blob, value in zip(layer.blobs, (0, 1, 1), strict=True):
                    blob.data[...] = value
        inputs = self._feed(net, classes)
        module = TorchNet(net).to(self.device).eval()

        def theirs():
            with torch.inference_mode():
                return module(*inputs)

        net.forward()
        check = float(net.blobs[net.outputs[-1]].cpu_data.max()), float(theirs().max())
        return repeated(net.forward), repeated(theirs), check

    def training(self, name: str, batch: int) -> Sides:
        """Return the sides of a training step: forward, backward, update with momentum and weight decay."""
        train, _, _, picture, classes = NETS[name]
        param = caffe_pb2.SolverParameter(
            base_lr=1e-4, momentum=0.9, weight_decay=0.0005, lr_policy="fixed", random_seed=1, stop_on_nan=False
        )
        param.net_param.CopyFrom(self._read(name, train, TRAIN, batch, picture))
        solver = Solver(param, engine=self.engine, plan=True)  # as `caffe train` does
        inputs = self._feed(solver.net, classes)
        module = TorchNet(solver.net).to(self.device).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.0005)

        def theirs():
            optimizer.zero_grad(set_to_none=True)
            loss = module(*inputs)
            loss.backward()
            optimizer.step()
            return loss

        solver.step(1)
        check = float(solver.smoothed_loss), theirs().item()
        return solver.step, repeated(theirs), check

    def _read(self, name, path, phase, batch, picture):
        if not self.dry:
            return read(path, phase, batch, picture)
        param = read(path, phase, batch, DRY_PICTURES[name])
        for layer in param.layer:
            for settings in (layer.convolution_param, layer.inner_product_param):
                if settings.num_output > 10:  # the classes stay
                    settings.num_output //= DRY_DIVISOR
        return param

    def _feed(self, net, classes):
        return [values.to(self.device) for values in feed(net, classes)]
