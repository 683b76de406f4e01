"""Writes digits.csv for digits.jet, and digits_test.csv with every fifth image, which is left out of the first: every image is a
run with a row at time 0 and one at time 1, whose class says where it ends.

    python3 digits.py FOLDER                       the 8 x 8 digits in scikit-learn's wheel, which pip downloads
    python3 digits.py FOLDER IMAGES LABELS         IDX files, such as MNIST's (then `state s[784]` in the program)
"""

import gzip
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile


def idx(path):
    """An IDX file of bytes, gzipped or not: two zeros, the type, the number of dimensions, their sizes, the numbers."""
    data = pathlib.Path(path).read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    zero, kind, dimensions = struct.unpack_from(">HBB", data)
    if zero or kind != 8:
        sys.exit(f"{path} is no IDX file of bytes")
    count, *sizes = struct.unpack_from(f">{dimensions}I", data, 4)
    size = 1
    for s in sizes:
        size *= s
    start = 4 + 4 * dimensions
    return [data[start + k * size : start + (k + 1) * size] for k in range(count)]


def wheel():
    """Images and labels of the digits that scikit-learn carries: 64 numbers from 0 to 16 and a class, line by line."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", folder]
        subprocess.run([*pip, "scikit-learn"], check=True)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as files:
            name = next(n for n in files.namelist() if n.endswith("data/digits.csv.gz"))
            lines = gzip.decompress(files.read(name)).decode().split()
    rows = [[float(x) for x in line.split(",")] for line in lines]
    return [[x / 16 for x in row[:-1]] for row in rows], [int(row[-1]) for row in rows]


def write(path, images, labels):
    with open(path, "w") as out:
        print(",".join(["t", *(f"s{k}" for k in range(len(images[0]))), "run", *(f"c{k}" for k in range(10))]), file=out)
        for run, (image, label) in enumerate(zip(images, labels)):
            classes = [str(int(k == label)) for k in range(10)]
            for t in (0, 1):
                print(",".join([str(t), *(f"{x * (1 - t):.4g}" for x in image), str(run), *classes]), file=out)


def main():
    if len(sys.argv) == 4:
        images = [[x / 255 for x in image] for image in idx(sys.argv[2])]
        labels = [label[0] for label in idx(sys.argv[3])]
    elif len(sys.argv) == 2:
        images, labels = wheel()
    else:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    kept = [k for k in range(len(images)) if k % 5 < 4]
    left = [k for k in range(len(images)) if k % 5 == 4]
    for name, rows in (("digits.csv", kept), ("digits_test.csv", left)):
        write(folder / name, [images[k] for k in rows], [labels[k] for k in rows])


main()
