"""Graphs for other runtimes, checked against torch before they are handed over."""

from .check import Comparison, GraphMismatchError
from .onnx import export_onnx

__all__ = ["Comparison", "GraphMismatchError", "export_onnx"]
