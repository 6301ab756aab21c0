"""Bytes of a coded block ↔ integer pixels: what a coded ``data.envi`` is made of.

Knows NumPy, imagecodecs, numba (loaded when a coding is used), the error tree and the layout; no
files, headers or containers.
"""
