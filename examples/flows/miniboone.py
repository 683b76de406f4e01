"""Writes miniboone.csv for miniboone.jet, and miniboone_test.csv with every tenth point, which is left out of the first: each point is
a run with a row at time 0 and one at time 1. Columns are shifted and scaled to mean 0 and deviation 1 on the first file.

    python3 miniboone.py FOLDER ARRAY.npy          MINIBOONE as an array of shape [points, 43], f32 or f64
    python3 miniboone.py FOLDER                    in its place, points that are made up: 43 columns with bent dependencies
"""

import array
import ast
import math
import pathlib
import random
import struct
import sys

COLUMNS = 43


def read(path):
    """A matrix of an NPY file: magic, version, length of the header, header, numbers."""
    data = pathlib.Path(path).read_bytes()
    if data[:6] != b"\x93NUMPY":
        sys.exit(f"{path} is no NPY file")
    (length,), start = (struct.unpack_from("<H", data, 8), 10) if data[6] == 1 else (struct.unpack_from("<I", data, 8), 12)
    header = ast.literal_eval(data[start : start + length].decode("latin1"))
    kinds = {"<f4": "f", "<f8": "d"}
    shape = header["shape"]
    if header["descr"] not in kinds or header["fortran_order"] or len(shape) != 2 or shape[1] != COLUMNS:
        sys.exit(f"{path}: expected [points, {COLUMNS}] in f32 or f64, row by row, and it is {header}")
    numbers = array.array(kinds[header["descr"]], data[start + length :])
    return [numbers[k : k + COLUMNS] for k in range(0, len(numbers), COLUMNS)]


def made_up(points=5000):
    """Eight hidden normal numbers, mixed, bent by a sine, and noise."""
    r = random.Random(0)
    mixing = [[r.gauss(0, 1) for _ in range(8)] for _ in range(COLUMNS)]
    rows = []
    for _ in range(points):
        hidden = [r.gauss(0, 1) for _ in range(8)]
        rows.append([math.sin(sum(m * h for m, h in zip(row, hidden))) + 0.3 * r.gauss(0, 1) for row in mixing])
    return rows


def write(path, rows):
    zeros = ",".join("0" for _ in range(COLUMNS + 1))
    with open(path, "w") as out:
        print(",".join(["t", *(f"s{k}" for k in range(COLUMNS + 1)), "run"]), file=out)
        for run, row in enumerate(rows):
            numbers = ",".join(f"{x:.6g}" for x in row)
            print(f"0,{numbers},0,{run}\n1,{zeros},{run}", file=out)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    rows = read(sys.argv[2]) if len(sys.argv) == 3 else made_up()
    kept = [row for k, row in enumerate(rows) if k % 10 < 9]
    left = [row for k, row in enumerate(rows) if k % 10 == 9]
    means = [math.fsum(row[c] for row in kept) / len(kept) for c in range(COLUMNS)]
    spreads = [math.sqrt(math.fsum((row[c] - means[c]) ** 2 for row in kept) / len(kept)) or 1.0 for c in range(COLUMNS)]
    folder = pathlib.Path(sys.argv[1])
    for name, rows in (("miniboone.csv", kept), ("miniboone_test.csv", left)):
        write(folder / name, [[(x - m) / s for x, m, s in zip(row, means, spreads)] for row in rows])


main()
