"""DeviceScaler: decoded 4:2:0 surfaces to small upright RGB, by torch, where the surfaces lie.

What a PicturePlan says, done for many pictures at once in single precision. It knows no decoder and
no clip. Imports torch, so only who has it imports this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from reelsight.media.backends.device_plan import Yuv, plan_picture
from reelsight.media.orientation import Orientation
from reelsight.nouns.engine_spec import Geometry

__all__ = ["DeviceScaler", "planes_of"]

# Clips of one source share a plan; a plan of 1920x1080 to 224x224 weighs 4 MB.
_PLANS_KEPT = 16
# Luma samples that are held as floats at a time: eight pictures of 1920x1080.
_SAMPLES = 8 * 1920 * 1080


def planes_of(surface: Any, yuv: Yuv) -> tuple[torch.Tensor, torch.Tensor]:
    """The planes of an NV12 surface, or of a P016 one for ten bits; views, nothing is copied.

    Args:
        surface: A DLPack producer of [rows, columns]: luma above chroma, Cb and Cr interleaved.
            NVDEC's surfaces are as wide and high as the picture, rounded up to even numbers.
        yuv: Of the clip.

    Returns:
        Integers of one or two bytes, [H, W] and [H / 2, W / 2, 2], rounded up.

    Raises:
        ValueError: It has another shape or type.
    """
    tensor = torch.from_dlpack(surface)
    wide, high = yuv.chroma
    fits = tensor.element_size() == (1 if yuv.bits == 8 else 2) and not tensor.is_floating_point()
    if not fits or tuple(tensor.shape) != (yuv.height + high, 2 * wide):
        got = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
        raise ValueError(f"a surface is {got}, not {yuv.width}x{yuv.height} of {yuv.bits} bits")
    if tensor.stride(1) == tensor.element_size() == 2:
        # PyNvVideoCodec before 2.2.4 counts the strides of P016 in bytes.
        tensor = tensor.as_strided(tensor.shape, (tensor.stride(0) // 2, 1))
    chroma = tensor[yuv.height :].unflatten(1, (wide, 2))
    return tensor[: yuv.height, : yuv.width], chroma


class DeviceScaler:
    """Scales surfaces on one device, in torch's current stream. It belongs to one thread.

    Args:
        device: Where surfaces and results are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._plans: OrderedDict[Any, _Plan] = OrderedDict()

    def room(self, count: int, geometry: Geometry) -> torch.Tensor:
        """uint8 [count, S, S, 3], uninitialised."""
        shape = count, geometry.size, geometry.size, 3
        return torch.empty(shape, dtype=torch.uint8, device=self._device)

    def scale_into(
        self,
        out: torch.Tensor,
        surfaces: Sequence[Any],
        yuv: Yuv,
        sar: Fraction,
        orientation: Orientation,
        geometry: Geometry,
    ) -> None:
        """Write the upright square picture of each surface.

        The surfaces are read by work that may still be queued when this returns.

        Args:
            out: uint8 [N, S, S, 3], overwritten.
            surfaces: N of them, as `planes_of` takes them.
            yuv: Of the clip.
            sar: Width of a coded pixel over its height.
            orientation: How a coded picture turns upright.
            geometry: The target, S its side.

        Raises:
            ValueError: A surface does not fit `yuv`.
        """
        plan = self._plan(yuv, sar, orientation, geometry)
        step = max(1, _SAMPLES // (yuv.width * yuv.height))
        for start in range(0, len(surfaces), step):
            planes = [planes_of(surface, yuv) for surface in surfaces[start : start + step]]
            out[start : start + len(planes)] = plan.scaled(planes)

    def _plan(self, yuv: Yuv, sar: Fraction, orientation: Orientation, geometry: Geometry) -> _Plan:
        key = yuv, sar, orientation, geometry
        if key not in self._plans:
            self._plans[key] = _Plan(yuv, sar, orientation, geometry, self._device)
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]


class _Plan:
    """A PicturePlan on the device."""

    def __init__(
        self,
        yuv: Yuv,
        sar: Fraction,
        orientation: Orientation,
        geometry: Geometry,
        device: torch.device,
    ) -> None:
        plan = plan_picture(yuv, sar, orientation, geometry)
        self._yuv, self._device, self._transpose = yuv, device, plan.transpose

        def put(values: Any) -> torch.Tensor:
            return torch.from_numpy(values).to(device)

        self._luma = put(plan.luma_rows), put(plan.luma_columns.T.copy())
        self._chroma = put(plan.chroma_rows), put(plan.chroma_columns.T.copy())
        self._colours, self._offset = put(plan.colours.T.copy()), put(plan.offset)

    def scaled(self, planes: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Uint8 [N, S, S, 3]."""
        wide, high = self._yuv.chroma
        count = len(planes)
        luma = self._empty(count, self._yuv.height, self._yuv.width)
        chroma = self._empty(count, 2, high, wide)
        for i, (y, pairs) in enumerate(planes):
            luma[i] = _samples(y)
            chroma[i] = _samples(pairs.permute(2, 0, 1))
        rows, columns = self._luma
        y = rows @ (luma @ columns)
        rows, columns = self._chroma
        pairs = rows @ (chroma @ columns)
        yuv = torch.stack((y, pairs[:, 0], pairs[:, 1]), dim=-1)
        if self._transpose:
            yuv = yuv.transpose(1, 2)
        rgb = yuv @ self._colours + self._offset
        return rgb.clamp_(0, 255).round_().to(torch.uint8)

    def _empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self._device)


def _samples(plane: torch.Tensor) -> torch.Tensor:
    """The numbers that were coded: P016 holds ten bits at the upper end of sixteen."""
    if plane.dtype == torch.uint8:
        return plane
    # torch does no arithmetic on uint16.
    return (plane.view(torch.int16).to(torch.int32) & 0xFFFF) >> 6
