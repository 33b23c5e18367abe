"""Scalar kernel bodies, written once, compiled for the CPU and for CUDA."""
