"""The ``.hsi`` container of D4.1: header, bytes and coding, each apart.

Knows NumPy, imagecodecs (only when a coding needs it) and the modules at the bottom of
:mod:`pipeline`; nothing of cameras, the wire or the engine. Import what is needed from the
modules of this package.
"""
