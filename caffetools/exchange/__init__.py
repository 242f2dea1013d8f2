"""The ways out of and into other programs: ONNX graphs and safetensors files."""
