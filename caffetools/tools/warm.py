"""`caffe warm`: compile the kernels that training LeNet needs, so that the first run does not wait for them."""

from __future__ import annotations

from google.protobuf import text_format

from caffetools.engine.cpu.jit import compile_notice
from caffetools.glog import info
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver

NET = """
name: "LeNet"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 64 dim: 1 dim: 28 dim: 28 } shape { dim: 64 }
    data_filler { type: "uniform" } data_filler { type: "constant" } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def warm() -> int:
    """Train one step of LeNet on made-up data and return how many kernels that compiled."""
    param = caffe_pb2.SolverParameter(
        base_lr=0.01, momentum=0.9, lr_policy="fixed", test_iter=[1], test_interval=1, random_seed=1
    )
    text_format.Parse(NET, param.net_param)
    solver = Solver(param)
    solver.step(1)
    solver.close()
    info(f"Compiled {compile_notice.count} kernels ({compile_notice.place})")
    return compile_notice.count
