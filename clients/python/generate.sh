#!/usr/bin/env bash
# Generates the Python stubs of all services into $GEN, or clients/python/gen, with the interpreter in $PYTHON.
set -euo pipefail
cd "$(dirname "$0")/../.."

gen=${GEN:-clients/python/gen}
mkdir -p "$gen"
protos=$(find proto third_party -name '*.proto' | sort)
# shellcheck disable=SC2086
exec "${PYTHON:-python3}" -m grpc_tools.protoc -I proto -I third_party --python_out="$gen" --grpc_python_out="$gen" $protos
