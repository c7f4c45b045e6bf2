"""What is in the pictures: a chest and a head, as functions of place.

Coordinates are millimetres in DICOM's patient system (PS3.3 C.7.6.2.1.1): x grows
to the patient's left, y to the back, z to the head. The chest's origin lies in its
middle. Edges are soft over a millimetre, as partial volume makes them, so that one
phantom serves every voxel size. All arrays are float32, indexed [row, column].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane: TypeAlias = NDArray[np.float32]
    Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16]

AIR_HU = -1000.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid with axes along the patient's; lengths in millimetres."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def cover(self, x: Plane, y: Plane, z: float, *, softness_mm: float = 1.0) -> Plane:
        """Return how far each point of the plane at `z` lies inside: 1 inside, 0 outside."""
        (cx, cy, cz), (rx, ry, rz) = self.centre, self.radii
        distance = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2)
        return np.clip((1 - distance) * (min(self.radii) / softness_mm) + 0.5, 0, 1)


LEFT_LUNG = Ellipsoid((78, -5, 25), (56, 78, 118))
RIGHT_LUNG = Ellipsoid((-78, -5, 25), (60, 80, 112))
HEART = Ellipsoid((22, -32, -25), (52, 46, 55))
LIVER = Ellipsoid((-62, -2, -112), (78, 80, 52))
NODULES = (Ellipsoid((84, 12, 35), (11, 10, 10)), Ellipsoid((-66, 24, 70), (8, 8, 7)))
"""The findings: in the left lung, and in the right. SEG, SR and RTSTRUCT mark them."""
LIVER_LESION = Ellipsoid((-80, 5, -105), (14, 13, 13))


def grid(rows: int, columns: int, spacing_mm: float) -> tuple[Plane, Plane]:
    """Return the x and y of each pixel's centre, for a plane centred on the origin."""
    x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) * np.float32(spacing_mm)
    y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2) * np.float32(spacing_mm)
    return np.broadcast_to(x, (rows, columns)), np.broadcast_to(y[:, None], (rows, columns))


def _body(z: float) -> Ellipsoid:
    """The trunk at `z`, narrowing to the neck above the shoulders."""
    shoulders = float(np.clip((z - 105) / 70, 0, 1))
    width, depth = 178 - 95 * shoulders**2, 118 - 8 * shoulders**2
    return Ellipsoid((0, 0, z), (width, depth, 1000))


def chest_hu(x: Plane, y: Plane, z: float) -> Plane:
    """Return the chest's CT numbers, in Hounsfield units, in the plane at `z`."""
    body = _body(z)
    inside = body.cover(x, y, z)
    picture = AIR_HU + inside * (AIR_HU * -1 - 95)  # fat
    muscle = Ellipsoid(body.centre, (body.radii[0] - 16, body.radii[1] - 14, 1000))
    picture += muscle.cover(x, y, z) * 140

    def put(shape: Ellipsoid, hu: float) -> None:
        nonlocal picture
        cover = shape.cover(x, y, z)
        picture = picture * (1 - cover) + hu * cover

    put(LIVER, 65)
    put(LIVER_LESION, 20)
    _put_ribs(picture, x, y, z, body)
    for lung in (LEFT_LUNG, RIGHT_LUNG):
        put(lung, -860)
    _put_vessels(picture, x, y, z)
    put(HEART, 45)
    put(Ellipsoid((16, 48, z), (12, 12, 1000)), 160)  # descending aorta, with contrast
    put(Ellipsoid((0, -2, 130), (9, 9, 90)), AIR_HU)  # trachea
    disc = np.cos(z / 30 * 2 * np.pi) > 0.8
    put(Ellipsoid((0, 76, z), (20, 17, 1000)), 90 if disc else 420)
    put(Ellipsoid((0, 76, z), (16, 13, 1000)), 80 if disc else 190)
    put(Ellipsoid((0, 98, z), (8, 8, 1000)), 15)  # spinal canal
    for nodule in NODULES:
        put(nodule, 35)
    table = (np.abs(y - (132 + 0.0006 * x**2)) < 4) & (np.abs(x) < 200)
    return np.where(table, np.float32(-300), picture).astype(np.float32)


def _put_ribs(picture: Plane, x: Plane, y: Plane, z: float, body: Ellipsoid) -> None:
    """Draw the cage: an elliptical shell that slanting bands cut into ribs."""
    rx, ry = body.radii[0] - 22, body.radii[1] - 20
    depth_mm = np.abs(np.sqrt((x / rx) ** 2 + (y / ry) ** 2) - 1) * min(rx, ry)
    # A rib falls by about a quarter of its length from the spine to the front.
    band = np.cos((z + y * 0.45) / 26 * 2 * np.pi)
    picture[(depth_mm < 4.5) & (band > 0.25) & (z < 125)] = 480
    picture[(depth_mm < 2.5) & (band > 0.45) & (z < 125)] = 250


def _put_vessels(picture: Plane, x: Plane, y: Plane, z: float) -> None:
    """Draw vessels into what is lung: thick near the heart, thin at the rim."""
    lung = picture < -700
    lung &= _body(z).cover(x, y, z) > 0.9
    pattern = np.sin(x * 0.31 + z * 0.09) * np.sin(y * 0.27 - z * 0.07 + x * 0.05)
    reach = np.clip(1.0 - np.abs(x) / 190, 0.2, 1)
    picture[lung & (pattern > 1.02 - 0.14 * reach)] = -20
    picture += np.where(lung, pattern * 18, 0).astype(np.float32)


def chest_uptake(x: Plane, y: Plane, z: float) -> Plane:
    """Return the tracer's uptake in the plane at `z`, in units of the body's mean.

    Soft edges stand for the scanner's resolution and the movement of breathing.
    """
    blur_mm = 9.0
    picture = _body(z).cover(x, y, z, softness_mm=blur_mm) * 0.9
    for shape, level in ((LEFT_LUNG, 0.35), (RIGHT_LUNG, 0.35), (HEART, 2.6), (LIVER, 2.2)):
        cover = shape.cover(x, y, z, softness_mm=blur_mm)
        picture = picture * (1 - cover) + level * cover
    for nodule, level in zip((*NODULES, LIVER_LESION), (9.0, 6.5, 5.0), strict=True):
        picture += nodule.cover(x, y, z, softness_mm=blur_mm) * level
    return picture.astype(np.float32)


def head_signal(x: Plane, y: Plane, z: float) -> Plane:
    """Return a head's MR signal in the plane at `z`: T1-weighted, with an enhancing tumour."""
    picture = np.zeros(x.shape, dtype=np.float32)
    shapes = (
        (Ellipsoid((0, 0, 0), (78, 98, 88)), 620.0),  # scalp
        (Ellipsoid((0, 0, 0), (73, 93, 83)), 60.0),  # skull
        (Ellipsoid((0, 0, 0), (67, 87, 77)), 380.0),  # grey matter
        (Ellipsoid((0, 0, 2), (56, 75, 64)), 510.0),  # white matter
        (Ellipsoid((14, 2, 8), (9, 32, 15)), 110.0),  # ventricles
        (Ellipsoid((-14, 2, 8), (9, 32, 15)), 110.0),
        (Ellipsoid((33, -28, 18), (19, 17, 18)), 900.0),  # the tumour's rim
        (Ellipsoid((33, -28, 18), (13, 11, 12)), 240.0),  # and its necrotic middle
    )
    for shape, signal in shapes:
        cover = shape.cover(x, y, z)
        picture = picture * (1 - cover) + signal * cover
    folds = np.sin(x * 0.33) * np.sin(y * 0.29 + z * 0.2) * 55
    return (picture + np.where((picture > 330) & (picture < 560), folds, 0)).astype(np.float32)


def vial_signal(x: Plane, y: Plane, z: float) -> Plane:
    """Return the MR signal of a test object in the plane at `z`: vials around a middle one."""
    picture = Ellipsoid((0, 0, z), (98, 98, 1000)).cover(x, y, z) * 240
    for index in range(9):
        angle, reach = index * np.pi / 4, 62.0 if index < 8 else 0.0
        vial = Ellipsoid((reach * np.cos(angle), reach * np.sin(angle), z), (15, 15, 1000))
        cover = vial.cover(x, y, z)
        picture = picture * (1 - cover) + (330 + 80 * index) * cover
    end = np.clip((62 - abs(z)) / 4, 0, 1)  # the bottle is 124 mm long
    return np.asarray(picture * end, dtype=np.float32)


def noise(rows: int, columns: int, seed: int) -> Plane:
    """Return Gaussian noise of unit deviation, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def chest_shadow(rows: int, columns: int) -> Plane:
    """Return the chest as X-rays from the front would cast it: 0 nothing, about 1 the spine.

    The picture spans 352 by 400 mm, head up and the patient's left on the right.
    """
    step_mm = 2.0
    x, y = grid(130, 200, step_mm)
    heights = np.arange(175, -177, -step_mm)
    # Attenuation goes with density; the arms are up, the table does not show.
    shadow = [np.where(y < 125, chest_hu(x, y, z) + 1000, 0).sum(axis=0) for z in heights]
    return np.asarray(resize(np.stack(shadow), rows, columns) / 330_000 * 2, dtype=np.float32)


def resize(picture: Plane, rows: int, columns: int) -> Plane:
    """Return `picture` interpolated linearly to another size."""
    row = np.linspace(0, picture.shape[0] - 1, rows, dtype=np.float32)
    column = np.linspace(0, picture.shape[1] - 1, columns, dtype=np.float32)
    top, left = (
        np.int64(row.clip(0, picture.shape[0] - 2)),
        np.int64(column.clip(0, picture.shape[1] - 2)),
    )
    down, right = (row - top)[:, None], column - left
    upper = picture[top][:, left] * (1 - right) + picture[top][:, left + 1] * right
    lower = picture[top + 1][:, left] * (1 - right) + picture[top + 1][:, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)


def breast_shadow(rows: int, columns: int, *, oblique: bool) -> Plane:
    """Return a left breast as a mammogram shows it, chest wall at the left edge: 0 to 1."""
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] + np.zeros((1, columns), np.float32)
    out = np.linspace(0, 1.25, columns, dtype=np.float32) + np.zeros((rows, 1), np.float32)
    if oblique:
        down = down - 0.18 * (1 - out)
    reach = np.sqrt((down / 0.82) ** 2 + out**2)
    thickness = np.sqrt(np.clip(1 - reach**2, 0, 1)) ** 0.6
    # Glandular tissue spreads from the nipple, in lobes.
    angle = np.arctan2(down, 1.05 - out)
    lobes = 0.5 + 0.5 * np.sin(angle * 13 + 5 * reach) * np.sin(9 * out + 3 * down)
    gland = np.clip(1.1 - np.sqrt((down / 0.5) ** 2 + ((out - 0.55) / 0.45) ** 2), 0, 1)
    picture = thickness * (0.32 + 0.45 * gland * (0.5 + 0.5 * lobes))
    for row, column, size in ((-0.2, 0.5, 0.055), (0.27, 0.62, 0.02)):  # a mass, and a small one
        distance = np.sqrt((down - row) ** 2 + (out - column) ** 2) / size
        picture += np.clip(1.2 - distance, 0, 1) * 0.3
    if oblique:  # the pectoral muscle
        picture += np.clip((0.42 - out - 0.35 * (down + 1)) * 8, 0, 1) * 0.35
    return np.asarray(picture, dtype=np.float32)
