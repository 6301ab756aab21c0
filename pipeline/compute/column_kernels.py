"""Scale and offset of a block's lines for numba; see :mod:`pipeline.compute.columns`.

The arithmetic is that of :meth:`pipeline.line_factors.LineFactors.of_sums`, a line at a time: what
is changed there must be changed here.
"""

from __future__ import annotations

import numpy as np

from pipeline.compute.vector_ops import add_columns


def factors_of_lines(  # type: ignore[no-untyped-def]
    raw,  # uint8 or uint16 (lines, bands, samples)
    valid,  # bool (lines,)
    level,  # saturation, DN; 0: unknown
    dark_bands,  # int64 (n,); none: no masked columns
    dark_first,  # first sample, and the one after the last
    dark_last,
    dark_black,  # float64: the sum of their black
    most_offset,  # float64, DN
    strip_bands,  # the same of the strip
    strip_first,
    strip_last,
    strip_black,
    strip_white,  # float64: the sum of white above its black
    least_lamp,  # float64: least and greatest level that is believed
    most_lamp,
    factors,  # float32 (2, lines): scale and offset
):
    """Work out the factors of each line; gives how many lines are not trusted."""
    untrusted = 0
    dark_size = dark_bands.size * (dark_last - dark_first)
    strip_size = strip_bands.size * (strip_last - strip_first)
    for n in range(raw.shape[0]):
        factors[0, n] = np.float32(1)
        factors[1, n] = np.float32(0)
        believed = True
        if dark_size > 0:
            total, _ = add_columns(raw, n, dark_bands, dark_first, dark_last)
            offset = (np.float64(total) - dark_black) / np.float64(dark_size)
            believed = abs(offset) <= most_offset
            if believed and valid[n]:
                factors[1, n] = np.float32(offset)
        if strip_size > 0:
            total, most = add_columns(raw, n, strip_bands, strip_first, strip_last)
            # the offset as it is stored and subtracted
            shift = np.float64(factors[1, n]) * np.float64(strip_size)
            lamp = (np.float64(total) - strip_black - shift) / strip_white
            known = lamp >= least_lamp and lamp <= most_lamp
            if level > 0:
                known = known and most < level
            if known and valid[n]:
                factors[0, n] = np.float32(np.float64(1) / lamp)
            believed = believed and known
        if valid[n] and not believed:
            untrusted += 1
    return untrusted
