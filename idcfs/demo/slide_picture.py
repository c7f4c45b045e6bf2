"""What is on the slide: a section of stained tissue, drawn tile by tile at any magnification.

The tissue's texture repeats every `PERIOD` pixels and meets itself without a seam, so
all tiles wholly inside the tissue are copies of a few; only those on its outline are
drawn one by one. That is what makes hundreds of megabytes cheap. Colours are uint8
RGB, indexed [row, column, channel].
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colours: TypeAlias = NDArray[np.uint8]
    Plane: TypeAlias = NDArray[np.float32]

TILE = 512
PERIOD = 2048
"""Pixels at full magnification after which the texture repeats: a power of two of tiles."""

CELL = 16
"""Full-magnification pixels to one cell of the map of where there is tissue."""

GLASS = (244, 243, 246)

_EOSIN = np.array((226, 164, 196), dtype=np.float32)
_STROMA = np.array((240, 205, 222), dtype=np.float32)
_HAEMATOXYLIN = np.array((84, 56, 132), dtype=np.float32)

_QUALITY = 87
"""JPEG quality: the slide takes about 220 MB, as the real one does."""


def jpeg(tile: Colours) -> bytes:
    """Return a tile as a JPEG of RGB components, as Aperio's scanners store them."""
    target = BytesIO()
    Image.fromarray(tile).save(target, "JPEG", quality=_QUALITY, keep_rgb=True)
    return target.getvalue()


def _waves(random: np.random.Generator, finest_px: float) -> Plane:
    """Return smooth noise of mean 0 and deviation 1 that repeats after PERIOD pixels."""
    size = 512
    spectrum = np.fft.rfft2(random.standard_normal((size, size)))
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    reach = finest_px * size / PERIOD
    smooth = np.fft.irfft2(spectrum * np.exp(-((rows**2 + columns**2) * (reach * 3) ** 2)))
    smooth = (smooth / smooth.std()).astype(np.float32)
    wrapped = np.pad(smooth, ((0, 1), (0, 1)), mode="wrap")
    along = np.arange(PERIOD, dtype=np.float32) * (size / PERIOD)
    whole = along.astype(np.intp)
    part = along - whole
    upper = wrapped[:, whole] * (1 - part) + wrapped[:, whole + 1] * part
    return np.asarray(
        upper[whole] * (1 - part[:, None]) + upper[whole + 1] * part[:, None], dtype=np.float32
    )


def _draw_nuclei(depth: Plane, glands: Plane, random: np.random.Generator) -> None:
    """Put nuclei into `depth` (0 none, 1 deep blue), dense where `glands` is high."""
    reach = 26
    around = np.arange(-reach, reach + 1)
    down, across = np.meshgrid(around, around, indexing="ij")
    for _ in range(6500):
        row, column = random.integers(0, PERIOD, 2)
        if glands[row, column] < random.normal(0.1, 0.7):
            continue
        angle, long, wide = random.uniform(0, np.pi), random.uniform(9, 17), random.uniform(7, 11)
        u = down * np.cos(angle) + across * np.sin(angle)
        v = across * np.cos(angle) - down * np.sin(angle)
        distance = np.sqrt((u / long) ** 2 + (v / wide) ** 2)
        nucleus = np.clip((1 - distance) * 5, 0, 1) * random.uniform(0.6, 1.0)
        nucleus *= 0.75 + 0.25 * np.clip(distance * 1.4, 0, 1)  # paler inside
        place = np.ix_((row + around) % PERIOD, (column + around) % PERIOD)
        depth[place] = np.maximum(depth[place], nucleus)


def texture() -> Colours:
    """Return one period of stained tissue at full magnification."""
    random = np.random.default_rng(20_170_906)
    glands = _waves(random, 90)
    fibres = _waves(random, 14)
    depth = np.zeros((PERIOD, PERIOD), dtype=np.float32)
    _draw_nuclei(depth, glands, random)
    share = np.clip(glands * 0.6 + 0.5, 0, 1)[..., None]
    picture = _STROMA * (1 - share) + _EOSIN * share
    picture += (fibres * 9)[..., None] * np.array((0.5, 1.0, 0.7), dtype=np.float32)
    picture = np.where(
        (glands < -1.6)[..., None], np.array(GLASS, dtype=np.float32), picture
    )  # gaps
    picture = picture * (1 - depth[..., None]) + _HAEMATOXYLIN * depth[..., None]
    grain = random.standard_normal(picture.shape, dtype=np.float32) * 4.5
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def shrink(picture: Colours, factor: int) -> Colours:
    """Return `picture` at 1/`factor` of its size, each pixel the mean of those it covers."""
    rows, columns = picture.shape[0] // factor, picture.shape[1] // factor
    blocks = picture.reshape(rows, factor, columns, factor, 3)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32).round(), dtype=np.uint8)


def tissue_map(rows: int, columns: int) -> Plane:
    """Return where there is tissue, 0 to 1, on a slide of so many cells: one lobed piece."""
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    angle = np.arctan2(down, across)
    outline = (
        0.86 + 0.06 * np.sin(3 * angle + 1) + 0.04 * np.sin(7 * angle) + 0.02 * np.sin(23 * angle)
    )
    distance = np.sqrt(down**2 + across**2)
    inside = np.clip((outline - distance) * 120, 0, 1)
    for row, column, size in ((-0.25, 0.3, 0.11), (0.35, -0.35, 0.07), (0.1, 0.5, 0.04)):
        hole = np.sqrt((down - row) ** 2 + ((across - column) * 0.8) ** 2)
        inside *= np.clip((hole - size) * 120, 0, 1)
    return np.asarray(inside, dtype=np.float32)


class Magnification:
    """The slide seen `factor` times smaller than full magnification, cut into tiles."""

    def __init__(self, tissue: Plane, full_texture: Colours, factor: int) -> None:
        self._tissue = tissue
        self._texture = shrink(full_texture, factor) if factor > 1 else full_texture
        self._cell = CELL // factor
        self.rows = tissue.shape[0] * self._cell
        self.columns = tissue.shape[1] * self._cell
        self._copies: dict[tuple[int, int] | None, bytes] = {}

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles; the last ones may reach beyond the slide."""
        return -(-self.rows // TILE), -(-self.columns // TILE)

    def picture(self, top: int, left: int, rows: int, columns: int) -> Colours:
        """Return a rectangle of the slide; beyond its edge there is glass."""
        period = self._texture.shape[0]
        tissue = self._texture[
            np.ix_((top + np.arange(rows)) % period, (left + np.arange(columns)) % period)
        ]
        cover = self._cover(top, left, rows, columns)[..., None]
        glass = np.array(GLASS, dtype=np.float32)
        return np.asarray(tissue * cover + glass * (1 - cover) + 0.5, dtype=np.uint8)

    def jpeg_tile(self, row: int, column: int) -> bytes:
        """Return the tile at this row and column of tiles, as a JPEG."""
        span = TILE // self._cell
        cells = self._tissue[row * span : (row + 1) * span, column * span : (column + 1) * span]
        period = max(self._texture.shape[0] // TILE, 1)
        kind: tuple[int, int] | None
        if not cells.any():
            kind = None
        elif cells.min() == 1 and cells.shape == (span, span):
            kind = (row % period, column % period)
        else:
            return jpeg(self.picture(row * TILE, column * TILE, TILE, TILE))
        if kind not in self._copies:
            self._copies[kind] = jpeg(self.picture(row * TILE, column * TILE, TILE, TILE))
        return self._copies[kind]

    def _cover(self, top: int, left: int, rows: int, columns: int) -> Plane:
        """Return the share of tissue in each pixel of a rectangle that starts on a cell."""
        cell = self._cell
        cover = np.zeros((-(-rows // cell), -(-columns // cell)), dtype=np.float32)
        there = self._tissue[
            top // cell : top // cell + cover.shape[0], left // cell : left // cell + cover.shape[1]
        ]
        cover[: there.shape[0], : there.shape[1]] = there
        return cover.repeat(cell, axis=0).repeat(cell, axis=1)[:rows, :columns]
