"""Writes digits.csv for digits.jet: every image is a run with a row at time 0 and one at time 1, whose class says where it ends.

    python3 digits.py digits.csv                          the 8 x 8 digits of scikit-learn
    python3 digits.py digits.csv IMAGES LABELS            IDX files, such as MNIST's (then `state s[784]` in the program)
"""

import struct
import sys

import numpy as np


def idx(path):
    """An IDX file of bytes: two zeros, the type, the number of dimensions, their sizes, the numbers."""
    with open(path, "rb") as file:
        zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zero or kind != 8:
            sys.exit(f"{path} is no IDX file of bytes")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def main():
    if len(sys.argv) == 4:
        images, labels = idx(sys.argv[2]) / 255, idx(sys.argv[3])
    elif len(sys.argv) == 2:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = digits.images / 16, digits.target
    else:
        sys.exit(__doc__)
    images = images.reshape(len(images), -1)
    with open(sys.argv[1], "w") as out:
        pixels = [f"s{k}" for k in range(images.shape[1])]
        print(",".join(["t", *pixels, "run", *(f"c{k}" for k in range(10))]), file=out)
        for run, (image, label) in enumerate(zip(images, labels)):
            classes = [str(int(k == label)) for k in range(10)]
            for t in (0, 1):
                row = [f"{x * (1 - t):.4g}" for x in image]
                print(",".join([str(t), *row, str(run), *classes]), file=out)


main()
