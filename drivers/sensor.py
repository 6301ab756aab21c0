"""How the simulated camera sees: lamp, optics and sensor turn true reflectance into counts.

Electrons of an unbinned pixel = reflectance · response · exposure, the response being lamp × lens ×
grating × quantum efficiency along the spectrum, vignetting and slit along the line, and a fixed
pattern. Binning adds charges before the one conversion, so that a binned pixel has one read noise
and saturates as early as a single one. Noise is a function of (seed, stream, line) alone. Knows the
scene, the rig file's structures and the spectral axis; nothing of clocks, frames or links.
Formulas and sources: docs/simulated-camera.md.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.scene import PANEL_REFLECTANCE, Float32, Float64, Scene, spectra
from pipeline.bad_pixels import Kind
from pipeline.config import CameraConfig, Wavelengths
from pipeline.errors import ConfigError
from pipeline.layout import PIXEL_FORMATS, PixelFormat
from pipeline.spectral import SpectralAxis, spectral_axis

View = Literal["scene", "panel", "dark"]
_Float = TypeVar("_Float", bound=np.floating)
_Any = TypeVar("_Any", bound=np.generic)

#: Electrons that fill the converter's range at 0 dB.
FULL_WELL_E: Final = 32000.0
#: Read noise of one conversion, electrons.
READ_NOISE_E: Final = 12.0
#: Mean dark current at 25 °C (electrons a second and unbinned pixel), and K that double it.
DARK_25C_E_S: Final = 300.0
DARK_DOUBLING_K: Final = 7.0
#: Of a pixel that is a defect: read noise (electrons), response beside its neighbours', and how
#: many times the dark current of a good one.
NOISY_READ_E: Final = 120.0
LOW_RESPONSE: Final = 0.3
DEFECT_HOT_FACTOR: Final = 2000.0
#: Variance of rounding to whole counts, DN².
ROUNDING: Final = 1.0 / 12.0
#: Electrons a millisecond of a pixel in the middle of the slit at the best wavelength, for a
#: reflectance of 1: a panel of 0.95 fills 42 % of the range in 2.5 ms, unbinned.
PEAK_E_MS: Final = 5600.0
#: Bias as a part of the range: 64 DN of 4096.
BIAS: Final = 1.0 / 64.0
#: Spectral axis where the rig file gives none, as of a visible and near-infrared spectrograph.
DEFAULT_AXIS: Final = Wavelengths(first=400.0, last=1000.0, fwhm=5.5)

_LAMP_K: Final = 2856.0  # CIE standard illuminant A
_HALF_FIELD_RAD: Final = math.radians(19.0)
_HOT_SHARE: Final = 2e-4
_HOT_FACTOR: Final = 200.0
#: Values in the pool of noise, by the pixels of a line: up to 16,384, and above.
_POOL_SMALL, _POOL_LARGE = 1 << 20, 1 << 22
_MASK64: Final = (1 << 64) - 1
#: Typical quantum efficiency by wavelength, nm: silicon (CMOS) and InGaAs.
_SILICON: Final = (
    (350, 400, 450, 500, 550, 600, 650, 700, 750, 800, 850, 900, 950, 1000, 1050, 1100),
    (0.3, 0.52, 0.66, 0.74, 0.76, 0.73, 0.67, 0.6, 0.51, 0.41, 0.32, 0.23, 0.15, 0.08, 0.03, 0.005),
)
_INGAAS: Final = (
    (850, 900, 950, 1000, 1100, 1500, 1600, 1650, 1700, 1750),
    (0.08, 0.35, 0.68, 0.75, 0.8, 0.83, 0.81, 0.7, 0.35, 0.03),
)


class Sensor:
    """Lamp, optics and sensor of a rig file's ``[camera]``, with exposure and gain as they stand.

    Lines come out as (bands, samples) after binning, ROI and flip. ``exposure_ms`` and ``gain_db``
    may be set at any time.

    Attributes
    ----------
    bands, samples : int
        Of a line as delivered.
    axis : SpectralAxis
        Its wavelengths.
    bits, saturation_level : int
        Of the converter; largest count (DN).
    panel_reflectance : float or ndarray, (rows, 1)
        Of the white panel, all the same or by unbinned row of the ROI; for tests to set before
        the panel is first seen.
    defects : ndarray of uint8, (rows, columns)
        Kinds of the unbinned pixels (:class:`pipeline.bad_pixels.Kind`).
    """

    panel_reflectance: float | Float64 = PANEL_REFLECTANCE

    def __init__(self, config: CameraConfig) -> None:
        rows, columns = config.bands, config.samples
        self.config = config
        self.format = _pixel_format(config)
        self.bits = self.format.bits
        self.saturation_level = self.format.saturation_level
        self.binning = config.binning
        first_band, last_band = _region("vroi", config.vroi, rows, config.binning[0], "spectral")
        first, last = _region("hroi", config.hroi, columns, config.binning[1], "spatial")
        self.vroi, self.hroi = (first_band, last_band), (first, last)
        self.bands, self.samples = last_band - first_band + 1, last - first + 1
        given = DEFAULT_AXIS if config.wavelengths is None else config.wavelengths
        self.axis: SpectralAxis = spectral_axis(
            given,
            rows=rows,
            binning=config.binning[0],
            vroi=self.vroi,
            flip=config.flip,
        )
        physical = DEFAULT_AXIS if given == "index" else given
        row_nm = spectral_axis(physical, rows=rows).wavelength
        # Only what the ROI reads out is computed, in unbinned pixels.
        self._rows = slice((first_band - 1) * self.binning[0], last_band * self.binning[0])
        self._columns = slice((first - 1) * self.binning[1], last * self.binning[1])
        self._spectra = spectra(row_nm)[self._rows].astype(np.float32)
        self._spectra64 = self._spectra.astype(np.float64)
        self._make_pixels(row_nm, columns)
        self._scene: Scene | None = None
        self._exposure_ms = 4.0 if config.exposure_ms is None else config.exposure_ms
        self._gain_db = 0.0 if config.gain is None else config.gain
        self._pool: Float32 | None = None
        self._floor_at = math.nan
        self._still: dict[View, Float32] = {}
        wide = (self._spectra.shape[0], self._columns.stop - self._columns.start)
        self._wide = np.empty(wide, np.float32)
        self._mean = np.empty((self.bands, self.samples), np.float32)
        self._sigma = np.empty((self.bands, self.samples), np.float32)
        self._refresh()

    def _make_pixels(self, row_nm: Float64, columns: int) -> None:
        """Response, dark current and offsets of each unbinned pixel of the ROI."""
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed & _MASK64, 0x5E4508]))
        shape = (row_nm.size, columns)
        x = (np.arange(columns) + 0.5) / columns * 2.0 - 1.0
        slit = np.interp(x, np.linspace(-1, 1, 25), 1.0 + 0.012 * rng.standard_normal(25))
        across = np.cos(_HALF_FIELD_RAD * x) ** 4 * slit
        pattern = 1.0 + 0.01 * rng.standard_normal(shape)
        dark = np.exp(0.35 * rng.standard_normal(shape) - 0.5 * 0.35**2)
        dark = np.where(rng.random(shape) < _HOT_SHARE, dark * _HOT_FACTOR, dark)
        ideal = np.ones(shape)
        self.defects, stuck = self._place_defects(shape)
        ideal[self.defects == Kind.DEAD] = 0.0
        ideal[self.defects == Kind.LOW_RESPONSE] = LOW_RESPONSE
        ideal[:, columns - self.config.masked_columns :] = 0.0
        dark = np.where(self.defects == Kind.HOT, dark * DEFECT_HOT_FACTOR, dark)
        noisy = self.defects == Kind.NOISY
        # The converters of columns differ, and a little each pixel's reset level, electrons.
        bias = 8.0 * rng.standard_normal(columns) + 4.0 * rng.standard_normal(shape)
        area = (self._rows, self._columns)
        response = PEAK_E_MS * spectral_response(row_nm)[:, None] * across * pattern
        self._ideal = response[area]
        self._response = (response * ideal)[area]
        self._stuck = stuck[area][:: self.binning[0], :: self.binning[1]]
        variance = np.where(noisy, NOISY_READ_E**2, READ_NOISE_E**2)[area]
        # A bin has one conversion, and the noise of its worst pixel.
        self._read_variance = self._worst_of_bins(variance)
        self._strip = slice(0, max(0, self.config.panel_columns - self._columns.start))
        self._dark = self._sum_bins(DARK_25C_E_S * dark[area])
        # A bin is converted once: it has the offset of its first pixel.
        self._bias = bias[area][:: self.binning[0], :: self.binning[1]]

    def _place_defects(self, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], Float32]:
        """Draw where the bad pixels are, and the counts at which stuck ones stand (NaN: others).

        Of a generator of their own: a sensor without any has the noise that it always had. None of
        them lies in the masked columns.
        """
        kinds = np.zeros(shape, np.uint8)
        stuck: Float32 = np.full(shape, np.nan, np.float32)
        wanted = self.config.defects
        each = {
            Kind.STUCK: wanted.stuck,
            Kind.DEAD: wanted.dead,
            Kind.HOT: wanted.hot,
            Kind.NOISY: wanted.noisy,
            Kind.LOW_RESPONSE: wanted.low_response,
        }
        total = sum(each.values())
        rows, columns = shape[0], shape[1] - self.config.masked_columns
        if total > rows * columns // 4:
            raise ConfigError(
                f"[camera] defects: found {total}, allowed are up to {rows * columns // 4} of this "
                "sensor"
            )
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed & _MASK64, 0xBAD]))
        places = rng.choice(rows * columns, total, replace=False)
        at = 0
        for kind, count in each.items():
            row, column = np.divmod(places[at : at + count], columns)
            kinds[row, column] = kind
            if kind is Kind.STUCK:
                level = rng.integers(self.saturation_level // 4, self.saturation_level, count)
                stuck[row, column] = level
            at += count
        return kinds, stuck

    def _worst_of_bins(self, pixels: Float64) -> Float64:
        """Give the largest value of each bin."""
        across, along = self.binning
        rows, columns = pixels.shape
        bins = pixels.reshape(rows // across, across, columns // along, along)
        return np.asarray(bins.max(axis=(1, 3)), np.float64)

    @property
    def scene(self) -> Scene:
        """What lies under the slit; painted when it is first needed."""
        if self._scene is None:
            self._scene = Scene(self.config.samples, self.config.seed, self.config.scene)
        return self._scene

    def warm(self) -> None:
        """Paint the scene and draw the noise now, while nobody waits for a line."""
        _ = self.scene
        self._normal(0, 0)

    @property
    def exposure_ms(self) -> float:
        """Exposure of a line, ms."""
        return self._exposure_ms

    @exposure_ms.setter
    def exposure_ms(self, value: float) -> None:
        self._exposure_ms = value
        self._refresh()

    @property
    def gain_db(self) -> float:
        """Analogue gain, dB; 20 dB make ten times as many counts of an electron."""
        return self._gain_db

    @gain_db.setter
    def gain_db(self, value: float) -> None:
        self._gain_db = value
        self._refresh()

    @property
    def electrons_per_dn(self) -> float:
        """Conversion of one count, electrons."""
        span = (self.saturation_level + 1) * (1.0 - BIAS)
        return float(FULL_WELL_E / span / 10.0 ** (self._gain_db / 20.0))

    def truth(self, line: int) -> Float64:
        """Give the true reflectance of a line of the scene: (bands, samples), 1.0 = 100 %.

        A binned pixel's reflectance is the mean of its pixels', weighted with their response.
        """
        signal = self._sum_bins(self._ideal * self._reflectance("scene", line))
        return self._flipped(signal / self._sum_bins(self._ideal))

    def expected_counts(
        self, line: int, view: View = "scene", temperature_c: float = 31.0
    ) -> Float64:
        """Mean counts (DN) of a line, cut at saturation: (bands, samples)."""
        mean = self._signal_dn(view, line) + self._offset_dn(temperature_c)
        return self._flipped(np.minimum(mean, self.saturation_level))

    def noise_variance(
        self, line: int, view: View = "scene", temperature_c: float = 31.0
    ) -> Float64:
        """Variance of the counts (DN²) of a line: (bands, samples).

        Shot noise of signal and dark current, read noise, and 1/12 DN² of rounding; holds for
        counts away from saturation and a standard deviation of half a count or more.
        """
        shot = self._signal_dn(view, line) / self.electrons_per_dn
        return self._flipped(shot + self._floor_variance(temperature_c))

    def expose(
        self,
        into: NDArray[np.generic],
        view: View,
        line: int,
        temperature_c: float,
        stream: int,
        index: int,
        lamp: float = 1.0,
        pedestal_dn: float = 0.0,
    ) -> None:
        """Read out one line.

        Parameters
        ----------
        into : ndarray, (bands, samples)
            Where the counts go, of the pixel format's dtype.
        view : {"scene", "panel", "dark"}
            What the slit sees.
        line : int
            Line of the scene under the slit.
        temperature_c : float
            Of the sensor, °C.
        stream, index : int
            With the seed they alone decide on the noise.
        lamp : float
            Light of the lamp, 1 as it should be.
        pedestal_dn : float
            Counts on top of the bias.
        """
        signal = self._fast_signal(view, line)
        if lamp != 1.0:
            signal = signal * np.float32(lamp)
        if temperature_c != self._floor_at:
            self._floor_at = temperature_c
            self._floor_mean = self._offset_dn(temperature_c).astype(np.float32)
            # Rounding adds its own twelfth below.
            self._floor_var = (self._floor_variance(temperature_c) - ROUNDING).astype(np.float32)
        mean, sigma = self._mean, self._sigma
        np.multiply(signal, np.float32(1.0 / self.electrons_per_dn), out=sigma)
        sigma += self._floor_var
        np.sqrt(sigma, out=sigma)
        normal, negate = self._normal(stream, index)
        sigma *= normal
        np.add(signal, self._floor_mean, out=mean)
        (np.subtract if negate else np.add)(mean, sigma, out=mean)
        if pedestal_dn:
            mean += np.float32(pedestal_dn)
        if self.config.defects.stuck:
            np.copyto(mean, self._stuck, where=~np.isnan(self._stuck))
        np.rint(mean, out=mean)
        np.maximum(mean, 0.0, out=mean)
        np.minimum(mean, self.saturation_level, out=mean)
        np.copyto(self._flipped(into), mean, casting="unsafe")

    def _refresh(self) -> None:
        """Forget what followed from the old exposure and gain."""
        self._dn = (self._response * (self._exposure_ms / self.electrons_per_dn)).astype(np.float32)
        self._floor_at = math.nan
        self._still.clear()

    def _reflectance(self, view: View, line: int) -> Float64:
        """Reflectance of what the slit sees, in unbinned pixels of the ROI."""
        if view == "dark":
            return np.zeros(self._response.shape)
        if view == "panel":
            return np.full(self._response.shape, self.panel_reflectance)
        shares = self.scene.abundance(line)[:, self._columns].astype(np.float64)
        seen = np.asarray(self._spectra64 @ shares, np.float64)
        seen[:, self._strip] = self.panel_reflectance
        return seen

    def _signal_dn(self, view: View, line: int) -> Float64:
        """Mean signal in DN, dark and bias left out, in float64."""
        electrons = self._sum_bins(self._response * self._reflectance(view, line))
        return np.asarray(electrons * (self._exposure_ms / self.electrons_per_dn), np.float64)

    def _fast_signal(self, view: View, line: int) -> Float32:
        """As :meth:`_signal_dn` in float32; what does not change from line to line is kept."""
        if view == "scene" and self.scene.lines > 1:
            np.matmul(self._spectra, self.scene.abundance(line)[:, self._columns], out=self._wide)
            self._wide[:, self._strip] = self.panel_reflectance
            self._wide *= self._dn
            return self._sum_bins(self._wide)
        if view not in self._still:
            self._still[view] = self._signal_dn(view, line).astype(np.float32)
        return self._still[view]

    def _offset_dn(self, temperature_c: float) -> Float64:
        """Bias and dark counts, DN."""
        electrons = self._bias + self._dark_e(temperature_c)
        bias = BIAS * (self.saturation_level + 1)
        return np.asarray(bias + electrons / self.electrons_per_dn, np.float64)

    def _floor_variance(self, temperature_c: float) -> Float64:
        """Variance without light, DN²: dark current's shot noise, read noise, rounding."""
        electrons = self._dark_e(temperature_c) + self._read_variance
        return np.asarray(electrons / self.electrons_per_dn**2 + ROUNDING, np.float64)

    def _dark_e(self, temperature_c: float) -> Float64:
        """Dark electrons of an exposure."""
        warmth = 2.0 ** ((temperature_c - 25.0) / DARK_DOUBLING_K)
        return np.asarray(self._dark * (warmth * self._exposure_ms / 1000.0), np.float64)

    def _sum_bins(self, pixels: NDArray[_Float]) -> NDArray[_Float]:
        """Add the pixels of each bin."""
        across, along = self.binning
        if across == along == 1:
            return pixels
        total = pixels[::across, ::along].copy()
        for i in range(1, across * along):
            total += pixels[i // along :: across, i % along :: along]
        return total

    def _flipped(self, line: NDArray[_Any]) -> NDArray[_Any]:
        """View a line, from sensor order to the order of delivery or back."""
        if "spectral" in self.config.flip:
            line = line[::-1]
        if "spatial" in self.config.flip:
            line = line[:, ::-1]
        return line

    def _normal(self, stream: int, index: int) -> tuple[Float32, bool]:
        """Give standard normal values of a line, and whether to negate them.

        A window of a pool of normal values, at a place that a counter-based generator (Philox)
        draws for (seed, stream, index): any line can be made again alone, at a tenth of the cost
        of fresh values. A pixel's values over lines are independent draws from the pool.
        """
        size = self.bands * self.samples
        places = _POOL_SMALL if size <= 1 << 14 else _POOL_LARGE
        if self._pool is None:
            fresh = np.random.Generator(np.random.SFC64([self.config.seed, 0xB001]))
            pool = fresh.standard_normal(places + size, dtype=np.float32)
            pool -= pool.mean(dtype=np.float64)
            pool /= np.float32(pool.std(dtype=np.float64))
            self._pool = pool
        key = np.array([self.config.seed & _MASK64, stream & _MASK64], np.uint64)
        counter = np.array([0, 0, 0, index], np.uint64)
        drawn = int(np.random.Philox(key=key, counter=counter).random_raw())
        start = drawn % places
        window = self._pool[start : start + size].reshape(self.bands, self.samples)
        return window, bool(drawn >> 63)


def spectral_response(nm: Float64) -> Float64:
    """Lamp × lens × grating × quantum efficiency at wavelengths in nm, the largest being 1."""
    c2 = 1.438777e7  # second radiation constant, nm·K
    lamp = nm**-4.0 / np.expm1(c2 / (nm * _LAMP_K))  # Planck, in photons
    lens = 0.95 / (1.0 + np.exp(-(nm - 385.0) / 12.0))
    infrared = float(nm.max()) > 1100.0
    blaze = 1250.0 if infrared else 600.0
    grating = 0.2 + 0.8 * np.exp(-np.square((nm - blaze) / (0.55 * blaze)))
    known, efficiency = _INGAAS if infrared else _SILICON
    response = lamp * lens * grating * np.interp(nm, known, efficiency)
    return np.asarray(np.maximum(response / response.max(), 0.002), np.float64)


def _region(
    name: str, roi: tuple[int, int] | None, size: int, binning: int, what: str
) -> tuple[int, int]:
    """First and last binned pixel that are read out, 1-based inclusive."""
    if binning > size:
        raise ConfigError(
            f"[camera] binning: found {binning} ({what}), this sensor allows 1 to {size}"
        )
    pixels = size // binning
    first, last = roi or (1, pixels)
    if last > pixels:
        raise ConfigError(
            f"[camera] {name}: found [{first}, {last}], allowed are binned pixels 1 to {pixels}"
        )
    return first, last


def _pixel_format(config: CameraConfig) -> PixelFormat:
    """Find the format of delivered pixels: ``pixel_format`` if given, else by ``bit_depth``."""
    name = config.pixel_format or f"Mono{config.bit_depth}"
    if name not in PIXEL_FORMATS:
        raise ConfigError(
            f"[camera] pixel_format: found {name!r}, allowed are {', '.join(PIXEL_FORMATS)}"
        )
    return PIXEL_FORMATS[name]
