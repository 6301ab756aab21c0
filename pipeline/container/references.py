"""White and black references as a container holds them, and reflectance from them.

Every ``Reference/NAME.envi`` becomes a :class:`Reference`; :class:`Reflectance` finds those that
the formula of :mod:`pipeline.reflectance` needs, interpolates in time where an ``_after`` exists,
and corrects boxes of raw counts. Knows headers, cubes and the formula; nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import replacements
from pipeline.container.counts import Counts
from pipeline.container.cube import Box
from pipeline.container.header import Header
from pipeline.container.scaling import scale
from pipeline.errors import ReferenceMismatchError
from pipeline.layout import LedgerRows, LineStatus
from pipeline.line_factors import LineFactors, Part, Sums, Watched, blind, level_white, sums_of
from pipeline.reflectance import Correction, correction

Float32 = NDArray[np.float32]
#: More samples than any sensor has; a number beyond is none (nor is one that is infinite).
_MOST: Final = 1 << 24
#: Values of a reference that are averaged at once.
_BLOCK_VALUES: Final = 1 << 20


@dataclass(frozen=True)
class Reference:
    """A white or black reference.

    Attributes
    ----------
    header : Header
    array : ndarray of float32, (bands, samples)
        Mean counts over its lines.
    frames : ndarray of float32, (lines, bands, samples), or None
        Line by line, only where its header says ``reference = snapshot``.
    """

    header: Header
    array: Float32
    frames: Float32 | None = None


def make_reference(header: Header, raw: NDArray[Any]) -> Reference:
    """Make a reference of a mapped cube, averaging its lines.

    Parameters
    ----------
    header : Header
    raw : ndarray, (lines, samples, bands)

    Raises
    ------
    ReferenceMismatchError
        When it holds complex numbers.
    """
    lines, samples, bands = raw.shape
    if raw.dtype.kind == "c":
        raise ReferenceMismatchError("reference: found complex data, allowed are real counts")
    total = np.zeros((samples, bands), np.float64)
    with np.errstate(all="ignore"):
        step = max(1, _BLOCK_VALUES // (samples * bands))
        for line in range(0, lines, step):
            total += scale(raw[line : line + step], header, dtype="f8").sum(axis=0)
        mean = np.ascontiguousarray((total / lines).T, np.float32)
    frames = None
    if header.get("reference") == "snapshot":
        scaled = scale(raw, header)
        frames = np.ascontiguousarray(scaled.transpose(0, 2, 1), np.float32)
    return Reference(header, mean, frames)


class Reflectance:
    """Reflectance of boxes of a cube's raw counts.

    Parameters
    ----------
    header : Header
        Of the cube: its ``exposure``.
    references : mapping of str to Reference
        ``white`` and ``black`` must be there.
    shape : tuple of int
        ``(lines, samples, bands)`` of the raw cube (decoded, if it is coded).
    ledger : ndarray of LEDGER_DTYPE
        For the times of the lines; may be empty.
    bad : ndarray of bool, (bands, samples), optional
        Bad pixels: replaced along the spectrum.
    counts : Counts, optional
        Of the whole cube; needed where there are bad pixels, and where the header names a
        ``panel strip`` or ``dark columns``.

    Raises
    ------
    ReferenceMismatchError
        When a reference is missing or does not fit.
    """

    def __init__(
        self,
        header: Header,
        references: Mapping[str, Reference],
        shape: tuple[int, int, int],
        ledger: LedgerRows,
        *,
        bad: NDArray[np.bool_] | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.shape = shape
        self._bad, self._counts = bad, counts
        self._watched = watched_columns(header)
        self._level = header.whole("saturation level") or 0
        self._of_lines: LineFactors | None = None
        self._references = references
        self._exposure = header.number("exposure")
        for name in ("white", "black"):
            if name not in references:
                raise ReferenceMismatchError(
                    f"reflectance: found no Reference/{name}.envi, white and black are needed"
                )
        for name, reference in references.items():
            if name in FORMULA and reference.array.shape != (shape[2], shape[1]):
                raise ReferenceMismatchError(
                    f"Reference/{name}.envi: found (bands, samples) = {reference.array.shape}, "
                    f"the cube has {(shape[2], shape[1])}"
                )
        self._frames = self._snapshot()
        self._host_times = _host_times(ledger, shape[0])
        self._fixed = None if self._drifts or self._frames else self._of_pair("white", "black")
        for white in {"white", "white_after"} & set(references):
            self._of_pair(white, "black")  # checks panel and exposures
        if self._watched and self._fixed is not None:
            self._of_lines = self._line_factors(self._fixed)
        self._fixes: tuple[NDArray[np.int32], Float32] | None = None
        if bad is not None and self._fixed is not None:
            self._fixes = replacements(bad, ~bad & np.isfinite(self._fixed.gain))

    @property
    def _drifts(self) -> bool:
        return "white_after" in self._references or "black_after" in self._references

    def _panel(self, white: str) -> float | list[float]:
        header = self._references[white].header
        panel = header.floats("white reflectance")
        if panel is None and "white reflectance" in header:
            raise ReferenceMismatchError(
                f"white reflectance: found {header['white reflectance']!r}, allowed are numbers"
            )
        return 1.0 if not panel else panel[0] if len(panel) == 1 else panel

    def _of_pair(self, white: str, black: str, line: int | None = None) -> Correction:
        """Give the correction of one white and one black, of one line of a snapshot."""

        def pixels(reference: Reference) -> Float32:
            if line is None or reference.frames is None:
                return reference.array
            frame: Float32 = reference.frames[line]
            return frame

        own = self._references.get("white_black")
        dark = pixels(self._references[black])
        white_dark = dark if own is None else pixels(own)
        made = correction(
            dark,
            level_white(pixels(self._references[white]), white_dark, self._watched),
            white_black=white_dark,
            panel=self._panel(white),
            exposure=self._exposure,
            white_exposure=self._references[white].header.number("exposure"),
        )
        return blind(made, self._watched)

    def _interpolated(self, lines: NDArray[np.int64]) -> tuple[Float32, Float32]:
        """Give black and gain in time, ``(lines, bands, samples)``.

        Each reference is taken at the time of the line, between itself and its ``_after``; a
        white's own dark is ``white_black`` or else the dark at the time of that white.
        """
        found = self._references
        share = self._share("black", lines)[:, None, None]
        after = found.get("black_after", found["black"]).array
        black: NDArray[Any] = (1 - share) * found["black"].array.astype(np.float64) + share * after
        inverse = self._inverse_gain("white")
        if "white_after" in found:
            share = self._share("white", lines)[:, None, None]
            inverse = (1 - share) * inverse + share * self._inverse_gain("white_after")
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(inverse > 0, 1 / inverse, np.nan)
        gain = np.array(np.broadcast_to(gain, black.shape))
        dark = self._watched.dark_columns
        if dark is not None:
            gain[..., dark[0] - 1 : dark[1]] = 0.0
        return black.astype(np.float32), gain.astype(np.float32)

    def _dark_of(self, white: str) -> Float32:
        """Give a white's own dark: its own, or between those before and after, at its time."""
        found = self._references
        if "white_black" in found:
            return found["white_black"].array
        black = found["black"]
        after = found.get("black_after", black)
        first, last, when = (r.header.time() for r in (black, after, found[white]))
        share = float(white == "white_after")
        if first is not None and last is not None and when is not None and last > first:
            share = min(max((when - first) / (last - first), 0.0), 1.0)
        return (1 - np.float32(share)) * black.array + np.float32(share) * after.array

    def _inverse_gain(self, white: str) -> NDArray[Any]:
        reference = self._references[white]
        own = self._dark_of(white)
        panel = np.asarray(self._panel(white), np.float64)
        exposure = reference.header.number("exposure")
        ratio = 1.0
        if self._exposure is not None and exposure is not None:
            ratio = self._exposure / exposure
        level = level_white(reference.array, own, self._watched)
        signal: NDArray[Any] = (level - np.asarray(own, np.float64)) * ratio
        return signal / (panel[:, None] if panel.ndim else panel)

    def _snapshot(self) -> bool:
        framed = [
            (name, r)
            for name, r in self._references.items()
            if name in FORMULA and r.frames is not None
        ]
        for name, reference in framed:
            assert reference.frames is not None
            if reference.frames.shape[0] != self.shape[0]:
                raise ReferenceMismatchError(
                    f"Reference/{name}.envi: found a snapshot of {reference.frames.shape[0]} "
                    f"lines, the cube has {self.shape[0]}"
                )
        return bool(framed)

    def _share(self, name: str, lines: NDArray[np.int64]) -> Float32:
        """Give how far each line lies between a reference (0) and the one after it (1)."""
        times = []
        for which in (name, name + "_after"):
            reference = self._references.get(which, self._references.get(name))
            assert reference is not None
            times.append(reference.header.time())
        first, last = times
        if self._host_times is not None and first is not None and last is not None and last > first:
            begin = first.timestamp() * 1e9
            share = (self._host_times[lines] - begin) / (last.timestamp() * 1e9 - begin)
        else:
            share = lines / max(self.shape[0] - 1, 1)
        return np.clip(share, 0, 1).astype(np.float32)

    @property
    def fixed(self) -> Correction | None:
        """The arrays of the formula where they are the same for all lines."""
        return self._fixed

    @property
    def bad(self) -> NDArray[np.bool_] | None:
        """Pixels that are replaced, (bands, samples)."""
        return self._bad

    def correction(self, line: int = 0) -> Correction:
        """Give the arrays of the formula for one line of the raw cube."""
        if self._fixed is not None:
            return self._fixed
        if self._frames:
            return self._of_pair("white", "black", line)
        black, gain = self._interpolated(np.array([line]))
        return Correction(black[0], gain[0])

    def _arrays(self, lines: NDArray[np.int64]) -> tuple[Float32, Float32]:
        """Give black and gain, ``(lines, bands, samples)``."""
        if not self._frames:
            return self._interpolated(lines)
        each = [self._of_pair("white", "black", int(line)) for line in lines]
        return np.stack([c.black for c in each]), np.stack([c.gain for c in each])

    def _line_factors(self, corr: Correction) -> LineFactors:
        return LineFactors(
            self._watched,
            corr,
            panel=np.asarray(self._panel("white"), np.float64),
            saturation_level=self._level,
            bad=self._bad,
        )

    def factors(self, lines: NDArray[np.int64]) -> Float32 | None:
        """Give scale and offset (DN) of lines of the raw cube, (2, lines); None: 1 and 0."""
        counts = self._counts
        if not self._watched or counts is None:
            return None
        if self._of_lines is not None:
            factors, _ = self._of_lines.of_sums(partial(_sums, counts, lines), len(lines))
            return factors
        # references that change from line to line: each line beside its own
        each = []
        for line in lines:
            here = np.array([line])
            made = self._line_factors(self.correction(int(line)))
            each.append(made.of_sums(partial(_sums, counts, here), 1)[0])
        return np.concatenate(each, axis=1)

    def apply(
        self,
        raw: NDArray[Any],
        lines: NDArray[np.int64],
        samples: NDArray[np.int64],
        bands: NDArray[np.int64],
    ) -> Float32:
        """Correct raw counts.

        Parameters
        ----------
        raw : ndarray, (lines, samples, bands)
        lines, samples, bands : ndarray of int64
            Where each of its axes lies in the raw cube.

        Returns
        -------
        ndarray of float32, (lines, samples, bands)
            Reflectance, NaN where the white is not above its black.
        """
        out = raw.transpose(0, 2, 1).astype(np.float32)
        # A few lines at a time: interpolated references are as large as the pixels.
        step = len(lines) if self._fixed is not None else 16
        for start in range(0, len(lines), max(step, 1)):
            stop = start + step
            self._correct(out[start:stop], lines[start:stop], samples, bands)
        return out.transpose(0, 2, 1)

    def _correct(
        self,
        out: Float32,
        lines: NDArray[np.int64],
        samples: NDArray[np.int64],
        bands: NDArray[np.int64],
    ) -> None:
        """Turn counts into reflectance in place, ``(lines, bands, samples)``."""
        factors = self.factors(lines)
        if factors is not None:
            out -= factors[1, :, None, None]
        if self._fixed is not None:
            black, gain = self._fixed.black, self._fixed.gain
            rows, columns = _span(bands), _span(samples)
            out -= black[rows][:, columns]
            out *= gain[rows][:, columns]
        else:
            black, gain = self._arrays(lines)
            out -= black[:, bands[:, None], samples]
            out *= gain[:, bands[:, None], samples]
        if self._bad is not None:
            self._replace(out, (lines, samples, bands), black, gain, factors)
        if factors is not None:
            out *= factors[0, :, None, None]

    def _replace(
        self,
        out: Float32,
        indices: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        black: Float32,
        gain: Float32,
        factors: Float32 | None,
    ) -> None:
        """Give bad pixels the value between their neighbours along the spectrum."""
        lines, samples, bands = indices
        assert self._bad is not None
        assert self._counts is not None
        fix, weight = self._fixes or replacements(
            self._bad, ~self._bad & np.isfinite(gain.reshape(-1, *gain.shape[-2:])).all(axis=0)
        )
        # where in the box each bad pixel lies; a band or sample may be there more than once
        wanted = self._bad[bands[:, None], samples]
        if not wanted.any():
            return
        order = np.full(self._bad.shape, -1)
        order[fix[:, 0], fix[:, 1]] = np.arange(len(fix))
        row, column = np.nonzero(wanted)
        at = order[bands[row], samples[column]]
        _, sample, low, high = fix[at].T.astype(np.int64)
        value = np.full((len(lines), len(at)), np.nan, np.float32)
        known = low >= 0
        sample, low, high = sample[known], low[known], high[known]
        ends = []
        for band in (low, high):
            end = self._counts.points(lines, band, sample).astype(np.float32)
            if factors is not None:
                end -= factors[1, :, None]
            end -= black[..., band, sample]
            end *= gain[..., band, sample]
            ends.append(end)
        value[:, known] = ends[0] + (ends[1] - ends[0]) * weight[at[known]]
        out[:, row, column] = value


#: Header fields of the columns that always see the same: first and last sample, from 1.
PANEL_STRIP: Final = "panel strip"
DARK_COLUMNS: Final = "dark columns"
#: The references that the formula takes.
FORMULA: Final = ("white", "black", "white_black", "white_after", "black_after")


def _sums(counts: Counts, lines: NDArray[np.int64], part: Part) -> Sums:
    """Add up a part of some lines."""
    return sums_of(counts.part(lines, part.bands, part.samples))


def watched_columns(header: Header) -> Watched:
    """Give the columns that a header says always see the same.

    Raises
    ------
    ReferenceMismatchError
        When a field holds anything else than two numbers.
    """
    found: list[tuple[int, int] | None] = []
    for name in (PANEL_STRIP, DARK_COLUMNS):
        values = header.floats(name)
        fits = values is not None and len(values) == 2 and all(abs(v) < _MOST for v in values)
        if name in header and not fits:
            raise ReferenceMismatchError(
                f"{name}: found {header[name]!r}, allowed are two numbers: first and last sample"
            )
        found.append(None if values is None or not fits else (int(values[0]), int(values[1])))
    return Watched(*found)


def _span(indices: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Give consecutive indices as a slice, which copies nothing."""
    if indices.size and np.all(np.diff(indices) == 1):
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def _host_times(ledger: LedgerRows, lines: int) -> NDArray[np.float64] | None:
    """Give the host time of each stored line, ns since 1970; None where one is missing."""
    stored = ledger[ledger["line"] >= 0]
    if stored.size == 0 or np.any(stored["line"] >= lines):
        return None
    known = stored[stored["host_time_ns"] != 0]
    if known.size == 0:
        return None
    order = np.argsort(known["line"], kind="stable")
    times: NDArray[np.float64] = np.interp(
        np.arange(lines),
        known["line"][order].astype(np.float64),
        known["host_time_ns"][order].astype(np.float64),
    )
    return times


def lost_lines(ledger: LedgerRows, lines: int) -> NDArray[np.bool_]:
    """Mark the stored lines that the ledger calls lost, ``(lines,)``."""
    lost = np.zeros(lines, np.bool_)
    rows = ledger[(ledger["status"] == LineStatus.LOST) & (ledger["line"] >= 0)]
    rows = rows[rows["line"] < lines]
    lost[rows["line"]] = True
    return lost


def box_indices(
    origins: tuple[range | None, range | None, range | None], box: Box
) -> list[NDArray[np.int64] | None]:
    """Give the stored indices of a box's lines, samples and bands; None where there are none."""
    return [
        None if origin is None else np.array(origin[start:stop], np.int64)
        for origin, (start, stop) in zip(origins, box, strict=True)
    ]
