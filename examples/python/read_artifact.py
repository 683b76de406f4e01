"""Reads an artifact without jetc: its metadata, its checksum, its tensors; and runs the network in numpy.

    python read_artifact.py heat.safetensors

needs numpy and safetensors; where torch is there too, the same tensors are loaded into a torch module.
"""

import hashlib
import json
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file


def checksum(path):
    """What the file says, and what it is: SHA-256 of the file with the 64 digits as zeros."""
    data = open(path, "rb").read()
    key = b'"jetc.checksum":"'
    at = data.index(key) + len(key)
    stated = data[at : at + 64]
    zeroed = data[:at] + b"0" * 64 + data[at + 64 :]
    return stated.decode(), hashlib.sha256(zeroed).hexdigest()


def network(tensors, name, x):
    """The layers NAME.0, NAME.1, ... with tanh between them: x is [points, inputs]."""
    depth = sum(1 for t in tensors if t.startswith(name + ".") and t.endswith(".weight"))
    for layer in range(depth):
        x = x @ tensors[f"{name}.{layer}.weight"].T + tensors[f"{name}.{layer}.bias"]
        if layer + 1 < depth:
            x = np.tanh(x)
    return x


def main(path):
    stated, found = checksum(path)
    assert stated == found, f"damaged: {stated} and {found}"
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["jetc.format"] == "1"
    inputs = json.loads(metadata["jetc.inputs"])
    fields = json.loads(metadata["jetc.fields"])["quantities"]
    print("inputs ", [(i["name"], i["domain"]) for i in inputs])
    print("results", [(q["name"], q["shape"]) for q in fields])
    tensors = load_file(path)
    for name, tensor in tensors.items():
        print(f"  {name:<12} {tensor.dtype} {list(tensor.shape)}")

    # u = sin(pi*x) + t*x*(1 - x)*N(x, t) is a solution of the heat equation
    x, t = (a.ravel() for a in np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 11)))
    u = np.sin(np.pi * x) + t * x * (1 - x) * network(tensors, "N", np.stack([x, t], 1))[:, 0]
    exact = np.exp(-0.1 * np.pi**2 * t) * np.sin(np.pi * x)
    error = np.linalg.norm(u - exact) / np.linalg.norm(exact)
    print(f"relative L2 error of the solution, evaluated in numpy: {error:.1e}")
    assert error < 1e-2

    try:
        import torch
    except ImportError:
        return
    from safetensors.torch import load_file as load_torch

    layers = load_torch(path)
    first = torch.nn.Linear(2, 16)
    first.load_state_dict({k: layers[f"N.0.{k}"].float() for k in ("weight", "bias")})
    print("torch:", first)


if __name__ == "__main__":
    main(sys.argv[1])
