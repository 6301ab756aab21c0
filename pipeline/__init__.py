"""The pipeline of swath: from received lines to finished ``.hsi`` containers."""
