#!/bin/sh
# Makes caffetools/proto/caffe_pb2.py from caffe.proto.
#
# The compiler is pinned: code from protoc 21 (grpcio-tools 1.49) runs with every protobuf from 3.20 on, whereas
# that of newer compilers asks for their own version or a newer one. It lives in a virtual environment of its own,
# thrown away at the end, because it wants an older protobuf than the project does.
set -eu
cd "$(dirname "$0")/.."

env=$(mktemp -d)
trap 'rm -rf "$env"' EXIT
"${PYTHON:-python3}" -m venv "$env"
"$env/bin/pip" install --quiet "grpcio-tools==1.49.1" "setuptools<70"
"$env/bin/python" -m grpc_tools.protoc --proto_path=. --python_out=. caffetools/proto/caffe.proto
