#!/usr/bin/env python3
"""Instructions of a kernel's machine code, by basic block: what there is to count without a GPU.

    jetc emit FILE --step --target cubin > step.cubin
    benches/machine_code.py step.cubin KERNEL

Needs nvdisasm of a CUDA toolkit (NVDISASM, or on the path). A line for each block of more than 20 instructions: where it begins, how many there
are, the least cycles that one warp takes for them if all memory is there (the sum of the stalls that are in the code), and how many go to which
unit. A multiprocessor since sm_80 starts four instructions of 32 lanes a cycle, of which two can be whole numbers and comparisons (alu), two
products of whole numbers (imad, on the unit of fma), and half of one a function (xu).
"""

import collections
import os
import re
import subprocess
import sys

UNITS = {
    "fma": "FFMA FADD FMUL",
    "imad": "IMAD",
    "alu": "LOP3 IADD3 SHF ISETP FSETP SEL FSEL LEA FMNMX PLOP3 VIADD MOV PRMT IMNMX VIMNMX P2R R2P I2FP",
    "xu": "MUFU I2F F2I F2F POPC FRND",
    "memory": "LDS STS LDG STG LDL STL LD ST LDSM SHFL ATOMS ATOMG RED CCTL",
    "mma": "HMMA",
    "f64": "DADD DMUL DFMA DSETP",
}
UNIT = {name: unit for unit, names in UNITS.items() for name in names.split()}
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);?\s+/\* 0x[0-9a-f]{16} \*/")
CONTROL = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/")


def blocks(path, kernel):
    """Lists of (address, name, stall), by basic block."""
    disassembler = os.environ.get("NVDISASM", "nvdisasm")
    try:
        text = subprocess.run([disassembler, "-hex", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}: install a CUDA toolkit, or set NVDISASM to its nvdisasm")
    inside, instruction, found = False, None, []
    for line in text.split("\n"):
        if line.startswith("\t.section\t"):
            inside = f".text.{kernel}," in line
            found += [[]] if inside else []
        if not inside:
            continue
        if re.match(r"^\.L_x_\d+:", line):
            found.append([])
        if match := INSTRUCTION.match(line):
            name = re.sub(r"^@!?U?P\w+\s+", "", match[2]).split()[0].split(".")[0]
            instruction = (match[1], name)
        elif (match := CONTROL.match(line)) and instruction:
            found[-1].append((*instruction, int(match[1], 16) >> 41 & 15))
            instruction = None
    return found


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    found = blocks(*sys.argv[1:])
    if not found:
        sys.exit(f"there is no kernel {sys.argv[2]} in {sys.argv[1]}")
    for block in found:
        if len(block) > 20:
            units = collections.Counter(UNIT.get(name, "other") for _, name, _ in block)
            told = ", ".join(f"{unit} {count}" for unit, count in units.most_common())
            print(f"{block[0][0]}: {len(block)} instructions, {sum(b[2] for b in block)} cycles; {told}")


main()
