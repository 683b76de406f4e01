"""Differential operators of neural networks, compiled.

>>> import jetc, numpy as np
>>> program = jetc.compile("space x, y\\noutput r = lap(x^2*y)\\n")
>>> program.solver().eval(np.array([[1.0, 3.0]]))
array([[6.]])
"""

from ._jetc import (
    ArtifactError,
    DomainError,
    JetcError,
    Program,
    ProgramError,
    Solver,
    compile,
    compile_file,
    load,
)

__all__ = [
    "ArtifactError",
    "DomainError",
    "JetcError",
    "Program",
    "ProgramError",
    "Solver",
    "compile",
    "compile_file",
    "load",
]
