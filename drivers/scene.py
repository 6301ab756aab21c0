"""What the simulated camera looks at: a shelf of plants that moves past the slit, line by line.

Every point of the scene is a mixture of a few materials with known spectra, so that its true
reflectance is known at every wavelength: ``R(line, λ, x) = Σ_k a_k(line, x) · ρ_k(λ)``. The
abundances ``a`` hold shading too (a leaf in shadow has a sum below 1). The shelf is a torus: after
its last line comes its first. Everything follows from the seed. Knows NumPy only; light, optics
and sensor are in :mod:`drivers.sensor`, sources of the numbers in docs/simulated-camera.md.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

#: Materials in the order of the abundances.
MATERIALS: Final = (
    "moist soil",
    "dry soil",
    "mature leaf",
    "young leaf",
    "red leaf",
    "yellow leaf",
    "black plastic",
    "grey plastic",
    "water",
    "white panel",
)
#: Reflectance of the white panel, the same at every wavelength (a worn PTFE panel).
PANEL_REFLECTANCE: Final = 0.95
#: Up to so many columns two points are painted for each pixel along each axis, for soft edges.
_FINE_UP_TO: Final = 768
#: Beyond so many columns a painted point covers several of them, so that painting takes seconds.
_POINTS: Final = 2048
_GOLDEN_ANGLE: Final = np.pi * (3.0 - np.sqrt(5.0))
_SOIL, _DRY, _MATURE, _YOUNG, _RED, _YELLOW, _BLACK, _GREY, _WATER, _PANEL = range(len(MATERIALS))


class Scene:
    """A scene of ``columns`` points across the slit.

    Parameters
    ----------
    columns : int
        Points across the slit, one for each unbinned sensor column.
    seed : int
        Where every plant and every grain of soil comes from.
    kind : {"shelf", "bars"}
        ``shelf``: trays with plants, one and a half times as long as wide, then again from its
        start. ``bars``: each material as a bar along the lines; every line is the same, for
        statistics over lines.
    """

    def __init__(self, columns: int, seed: int = 1, kind: str = "shelf") -> None:
        self.columns = columns
        self.kind = kind
        self._coarse = 1
        if kind == "bars":
            self._abundance = _bars(columns)
        else:
            self._coarse = -(-columns // _POINTS)
            self._abundance = _Shelf(-(-columns // self._coarse), seed).paint()

    @property
    def lines(self) -> int:
        """Lines until the scene comes again."""
        return len(self._abundance) * self._coarse

    def abundance(self, line: int) -> Float32:
        """Share of each material at each point of a line: (materials, columns)."""
        shares = np.asarray(self._abundance[line % self.lines // self._coarse], np.float32)
        if self._coarse > 1:
            shares = np.repeat(shares, self._coarse, axis=1)[:, : self.columns]
        return shares

    def reflectance(self, line: int, wavelength: Float64) -> Float64:
        """Give the true reflectance of a line: (wavelengths, columns), 1.0 = 100 %."""
        return np.asarray(spectra(wavelength) @ self.abundance(line).astype(np.float64))


def spectra(wavelength: Float64) -> Float64:
    """Reflectance of each material.

    Parameters
    ----------
    wavelength : ndarray of float64, (wavelengths,)
        nm, sensible from 350 to 2500.

    Returns
    -------
    ndarray of float64, (wavelengths, materials)
        In the order of :data:`MATERIALS`; formulas in docs/simulated-camera.md.
    """
    nm = np.asarray(wavelength, np.float64)
    water = (
        0.10 * _peak(nm, 970, 22)
        + 0.18 * _peak(nm, 1190, 40)
        + 1.20 * _peak(nm, 1450, 50)
        + 1.60 * _peak(nm, 1940, 65)
        + 0.35 * np.clip((nm - 1300.0) / 1200.0, 0.0, None)
    )
    chlorophyll = (
        1.60 * _peak(nm, 430, 32)
        + 1.20 * _peak(nm, 385, 32)
        + 1.00 * _peak(nm, 470, 24)
        + 0.42 * _peak(nm, 590, 42)
        + 0.85 * _peak(nm, 642, 24)
        + 1.55 * _peak(nm, 678, 15)
    )
    carotene = 0.80 * _peak(nm, 385, 32) + 1.10 * _peak(nm, 440, 38) + 0.85 * _peak(nm, 485, 20)
    anthocyanin = 1.65 * _peak(nm, 535, 38)
    soil = 0.10 + 0.26 * (1.0 - np.exp(-np.clip(nm - 380.0, 0.0, None) / 420.0))
    soil = soil * (1.0 - 0.35 * _peak(nm, 430, 90))
    moist = 0.42 * soil * np.exp(-0.6 * water)

    def leaf(nir: float, chl: float, car: float, anth: float, wet: float) -> Float64:
        """Surface reflection plus scattering weakened by the pigments (Beer–Lambert form)."""
        absorbed = chl * chlorophyll + car * carotene + anth * anthocyanin + wet * water
        return np.asarray(0.033 + (nir - 0.033) * np.exp(-absorbed), np.float64)

    columns = (
        moist,
        soil,
        leaf(0.50, 2.3, 0.7, 0.0, 1.0),
        leaf(0.54, 1.25, 0.5, 0.0, 1.1),
        leaf(0.50, 0.95, 0.5, 1.6, 1.0),
        leaf(0.52, 0.22, 1.4, 0.1, 0.6),
        0.035 + 0.01 * (nm / 1000.0),
        0.30 + 0.03 * np.tanh((nm - 600.0) / 200.0),
        0.012 + 0.05 * np.exp(-np.clip(nm - 400.0, 0.0, None) / 160.0),
        np.full_like(nm, PANEL_REFLECTANCE),
    )
    return np.stack(columns, axis=-1)


def _peak(nm: Float64, centre: float, width: float) -> Float64:
    """Gaussian of height 1; ``width`` is its standard deviation, nm."""
    return np.asarray(np.exp(-0.5 * np.square((nm - centre) / width)), np.float64)


def _bars(columns: int) -> NDArray[np.float16]:
    """One line with all materials side by side, as shares: (1, materials, columns)."""
    material = np.arange(columns) * len(MATERIALS) // columns
    shares = material == np.arange(len(MATERIALS))[:, None]
    return np.asarray(shares[None], np.float16)


class _Shelf:
    """The painter of the shelf: layers from the tray up to the leaves, on a fine grid.

    At each fine point stand two materials, how much of the second, and the shade. Lengths are in
    fine points; ``unit`` is the width of the scene.
    """

    def __init__(self, columns: int, seed: int) -> None:
        self.columns = columns
        self.rows = max(2, columns * 3 // 2)
        self.rng = np.random.Generator(np.random.Philox(key=[seed, 0x5CE4E]))
        self.fine = 2 if columns <= _FINE_UP_TO else 1
        height, width = self.rows * self.fine, columns * self.fine
        self.unit = float(width)
        self.first = np.full((height, width), _GREY, np.uint8)
        self.second = np.full((height, width), _BLACK, np.uint8)
        self.mix = np.zeros((height, width), np.float32)
        self.shade = np.ones((height, width), np.float32)

    def paint(self) -> NDArray[np.float16]:
        """Paint everything: abundances (lines, materials, columns)."""
        height, width = self.first.shape
        self.shade[:] = 0.9 + 0.1 * self.noise(2)
        self.gutter(round(0.016 * width), round(0.066 * width))
        left, right = round(0.085 * width), round(0.945 * width)
        kinds = ("lettuce", "basil", "red lettuce", "stressed")
        for tray in range(2):
            top, bottom = tray * height // 2, (tray + 1) * height // 2
            edge = max(1, round(0.012 * width))
            self.tray(top + edge, bottom - edge, left, right, kinds[2 * tray : 2 * tray + 2])
        self.panel(round(0.958 * width), width)
        return self.abundances()

    def noise(self, cell: float) -> Float32:
        """Smooth periodic noise of about unit range, with grains of ``cell`` fine points."""
        height, width = self.first.shape
        ny, nx = max(2, int(height / cell)), max(2, int(width / cell))
        grid = self.rng.random((ny, nx), dtype=np.float32)
        y = np.arange(height) * (ny / height)
        x = np.arange(width) * (nx / width)
        y0, x0 = y.astype(int), x.astype(int)
        fy, fx = (y - y0).astype(np.float32)[:, None], (x - x0).astype(np.float32)
        fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
        wide = grid[:, x0 % nx] * (1 - fx) + grid[:, (x0 + 1) % nx] * fx
        return np.asarray(wide[y0 % ny] * (1 - fy) + wide[(y0 + 1) % ny] * fy, np.float32)

    def gutter(self, left: int, right: int) -> None:
        """Paint a channel with water along the lines, with glints on its ripples."""
        ripple = 0.5 * (self.noise(0.025 * self.unit) + self.noise(0.009 * self.unit))
        ripple = ripple[:, left:right]
        self.first[:, left:right], self.second[:, left:right] = _WATER, _PANEL
        glint = np.clip((ripple - 0.58) * 0.8, 0.0, None) + 0.03 * ripple
        self.mix[:, left:right] = glint.astype(np.float32)
        self.shade[:, left:right] = 1.0

    def panel(self, left: int, right: int) -> None:
        """Paint a strip of the white panel along the lines, at the edge of the view."""
        self.first[:, left:right] = self.second[:, left:right] = _PANEL
        self.mix[:, left:right], self.shade[:, left:right] = 0.0, 1.0

    def tray(self, top: int, bottom: int, left: int, right: int, kinds: tuple[str, ...]) -> None:
        """Paint a black tray of soil, with 3 × 4 plants, their kinds by column."""
        wall = max(1, round(0.008 * self.unit))
        self.first[top:bottom, left:right] = self.second[top:bottom, left:right] = _BLACK
        inner = np.s_[top + wall : bottom - wall, left + wall : right - wall]
        self.first[inner], self.second[inner] = _SOIL, _DRY
        clods, grain = self.noise(0.02 * self.unit)[inner], self.noise(2.5)[inner]
        self.mix[inner] = np.clip(0.9 * self.noise(0.12 * self.unit)[inner] - 0.25, 0, 0.6) + (
            0.15 * grain
        )
        self.shade[inner] = 0.5 + 0.3 * clods + 0.45 * grain
        across, along = 4, 3
        step_x, step_y = (right - left) / across, (bottom - top) / along
        for i in range(across):
            for j in range(along):
                jitter = self.rng.uniform(-0.05, 0.05, 2) * (step_y, step_x)
                y = top + (j + 0.5) * step_y + jitter[0]
                x = left + (i + 0.5) * step_x + jitter[1]
                self.plant(y, x, 0.5 * min(step_x, step_y), kinds[i * len(kinds) // across])

    def plant(self, y: float, x: float, radius: float, kind: str) -> None:
        """Paint a rosette: leaves at the golden angle, the oldest and largest lowest."""
        pairs = {
            "lettuce": (_MATURE, _YOUNG, 24, 0.40, 0.45),
            "basil": (_MATURE, _YOUNG, 18, 0.30, 0.05),
            "red lettuce": (_YOUNG, _RED, 24, 0.38, 0.55),
            "stressed": (_MATURE, _YELLOW, 16, 0.30, 0.30),
        }
        first, second, count, slender, young = pairs[kind]
        size = radius * self.rng.uniform(0.86, 1.08)
        turn = self.rng.uniform(0, 2 * np.pi)
        self.cast_shadow(y + 0.10 * radius, x + 0.10 * radius, 0.95 * size)
        for i in range(count):
            age = 1.0 - i / count
            length = size * (0.22 + 0.78 * age) * self.rng.uniform(0.88, 1.08)
            angle = turn + i * _GOLDEN_ANGLE + self.rng.normal(0, 0.12)
            blend = young + 0.5 * (1.0 - age)
            if kind == "red lettuce":
                blend = 1.05 - 0.6 * (1.0 - age)
            elif kind == "stressed":
                blend = young * self.rng.uniform(0.0, 1.2) + 0.55 * age * (self.rng.random() < 0.5)
            light = 0.64 + 0.42 * (1.0 - age) + self.rng.normal(0, 0.03)
            self.leaf(y, x, angle, length, slender * length, first, second, blend, light)

    def cast_shadow(self, y: float, x: float, radius: float) -> None:
        """Darken the soil around a plant, softly."""
        reach = radius * 1.35
        iy, ix, dy, dx = self.window((y - reach, y + reach), (x - reach, x + reach), y, x)
        distance = np.hypot(dy, dx) / radius
        self.shade[iy, ix] *= 1.0 - 0.6 / (1.0 + np.exp((distance - 0.95) * 9.0))

    def window(
        self, rows: tuple[float, float], columns: tuple[float, float], y: float, x: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32, Float32]:
        """Give the points of a rectangle on the torus, and their distances from (y, x)."""
        height, width = self.first.shape
        ys = np.arange(int(np.floor(rows[0])), int(rows[1]) + 2)[:height]
        xs = np.arange(max(0, int(np.floor(columns[0]))), min(width, int(columns[1]) + 2))
        dy, dx = (ys - y).astype(np.float32)[:, None], (xs - x).astype(np.float32)[None]
        return (ys % height)[:, None], xs[None], dy, dx

    def leaf(
        self,
        y: float,
        x: float,
        angle: float,
        length: float,
        half_width: float,
        first: int,
        second: int,
        blend: float,
        light: float,
    ) -> None:
        """Paint one leaf from (y, x) outwards: a pointed oval with midrib, veins and shading."""
        sin, cos = math.sin(angle), math.cos(angle)
        wide_y, wide_x = 1.3 * half_width * abs(cos) + 2, 1.3 * half_width * abs(sin) + 2
        tip_y, tip_x = y + length * sin, x + length * cos
        rows = (min(y, tip_y) - wide_y, max(y, tip_y) + wide_y)
        iy, ix, dy, dx = self.window(rows, (min(x, tip_x) - wide_x, max(x, tip_x) + wide_x), y, x)
        along = (dy * sin + dx * cos) / length
        across = (dy * cos - dx * sin) / half_width
        t = np.clip(along, 0.0, 1.0)
        wave = 1.0 + 0.06 * np.sin(along * 26.0 + 7.0 * angle)
        outline = 2.6 * np.sqrt(t + 0.004) * (1.0 - t) ** 0.62 * wave * 0.62
        side = np.abs(across)
        inside = (along > 0.0) & (along < 1.0) & (side < outline)
        if not inside.any():
            return
        edge = np.clip(side / np.maximum(outline, 1e-3), 0.0, 1.0)
        rib = np.exp(-np.square(across / (0.06 * (1.15 - t))))
        vein = np.clip(np.sin((along * 1.0 - 0.28 * side) * 46.0), 0.0, 1.0) ** 6
        mix = blend + 0.35 * rib + 0.12 * vein + 0.12 * (t - 0.5)
        if second == _RED:
            mix = blend * (0.7 + 0.55 * edge * t) - 0.25 * rib
        if second == _YELLOW:
            mix = blend * (0.4 + 0.9 * edge) + 0.1 * rib
        tilt = 0.10 * np.sign(across) * math.cos(angle + 0.8) + 0.07 * math.cos(angle - 0.6)
        shade = light * (0.84 + tilt + 0.18 * t - 0.2 * edge**3 + 0.05 * rib - 0.05 * vein)
        # Where it leaves the middle of the plant a leaf lies in the shadow of those above it.
        shade *= 0.5 + 0.5 * np.clip(t * 2.4, 0.0, 1.0)
        rim = np.clip((outline + 0.10 - side) / 0.10, 0.0, 1.0) * (along > -0.02) * (along < 1.03)
        self.shade[iy, ix] *= 1.0 - 0.35 * rim
        yy, xx = np.broadcast_arrays(iy, ix)
        at = (yy[inside], xx[inside])
        self.first[at], self.second[at] = first, second
        self.mix[at] = np.clip(mix, 0.0, 1.0)[inside]
        self.shade[at] = np.clip(shade, 0.05, 1.1)[inside]

    def abundances(self) -> NDArray[np.float16]:
        """Average the fine points of each pixel to shares of the materials."""
        out = np.zeros((self.rows, len(MATERIALS), self.columns), np.float16)
        share = (self.rows, self.fine, self.columns, self.fine)
        upper, lower = self.shade * (1.0 - self.mix), self.shade * self.mix
        for k in range(len(MATERIALS)):
            part = (upper * (self.first == k) + lower * (self.second == k)).reshape(share)
            total = part[:, 0, :, 0].copy()
            for i in range(1, self.fine**2):
                total += part[:, i // self.fine, :, i % self.fine]
            out[:, k] = total / self.fine**2
        return out
