"""Differential operators of neural networks, compiled."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

DType = Literal["float32", "float64"]
Pairs = Sequence[tuple[str, str]]

class JetcError(ValueError):
    """Something that jetc refuses: a program, an artifact, an argument."""

class ProgramError(JetcError):
    """A program with errors: the message shows each with its place."""

class ArtifactError(JetcError):
    """A file that is no artifact, or a damaged one."""

class DomainError(JetcError):
    """A point outside of the domain, or not finite."""

class Program:
    """A compiled program."""

    def plan(self) -> str:
        """What will be computed, for people."""
    def plan_json(self) -> str:
        """The same as JSON."""
    def warnings(self) -> list[str]:
        """What may not have been meant."""
    def solver(self, seed: int = 0, *, dtype: DType = "float64") -> Solver:
        """The program with initial weights."""
    def train(
        self,
        *,
        steps: int | None = None,
        seed: int = 0,
        dtype: DType = "float32",
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Callable[[int, int, float], bool | None] | None = None,
    ) -> Solver:
        """Trains from initial weights.

        ``progress(step, steps, loss)`` is called after each step; training stops where it returns False.
        """

class Solver:
    """An operator with weights, or a trained solution, that knows its domain."""

    @property
    def inputs(self) -> list[tuple[str, int]]:
        """Names of the columns of a point, with the number of columns of each."""
    @property
    def results(self) -> list[tuple[str, list[int]]]:
        """Names and shapes of the results, in the order of their columns."""
    @property
    def dtype(self) -> DType:
        """Precision of the tensors and of the values."""
    @property
    def program(self) -> str:
        """The text of the program."""
    @property
    def device(self) -> str:
        """Where it runs: 'cpu', 'cuda:0 (NVIDIA H200)', 'host'."""
    def on(self, device: str) -> Solver:
        """The same solver on a device: 'auto' (a GPU where everything is there for it, else the CPU), 'cpu', 'cuda:0', 'host'."""
    def eval(self, points: ArrayLike) -> NDArray[np.floating[Any]]:
        """Values at points of the domain: [points, columns] to [points, width]."""
    def eval_flagged(self, points: ArrayLike) -> tuple[NDArray[np.floating[Any]], NDArray[np.uint8]]:
        """Values at any points, and where each lies: 0 inside, 1 outside, 2 not finite."""
    def vjp(
        self, points: ArrayLike, cotangent: ArrayLike
    ) -> tuple[NDArray[np.floating[Any]], dict[str, NDArray[np.floating[Any]]]]:
        """The gradient of sum(cotangent * values): with respect to the points, and to each learned tensor by name."""
    def parameters(self) -> dict[str, NDArray[np.floating[Any]]]:
        """All tensors by name: copies."""
    def with_parameters(self, tensors: dict[str, ArrayLike]) -> Solver:
        """The same solver with other tensors, by name; those that are not named stay."""
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an artifact."""

def compile(text: str, *, set: Pairs | None = None, estimate: Pairs | None = None, device: str = "cpu") -> Program:
    """Compiles a program from its text. ``device``: where it runs and is trained, as for ``Solver.on``."""

def compile_file(
    path: str | os.PathLike[str], *, set: Pairs | None = None, estimate: Pairs | None = None, device: str = "cpu"
) -> Program:
    """Compiles a file; data files are relative to its folder."""

def load(path: str | os.PathLike[str], *, dtype: DType = "float64", device: str = "cpu") -> Solver:
    """Loads an artifact: ``NAME.solver`` of ``jetc build``, ``solver.safetensors`` of ``jetc train``."""
