"""What NVIDIA says that its video engines decode, to hold a measurement against.

Figures are of the NVDEC Application Note of Video Codec SDK 13.0, table "NVDEC Decoding
Performance": pictures a second of one engine at 1920x1080 4:2:0, which it says to scale with the
video clock and to multiply by the number of engines. It gives none for Hopper, whose engines it
says to be those of Turing.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

__all__ = ["MEASURED_480P", "SOURCE", "published", "video_clocks", "watched"]

SOURCE = (
    "NVDEC Application Note, Video Codec SDK 13.0: Turing, H.264 771 and HEVC 1316 pictures/s of "
    "one engine at 1920x1080 and 1860 MHz; 'decoding performance on Hopper and GA100 GPUs is same "
    "as that of Turing GPUs, scaled by the clock speed'"
)
# Measured before on one H200 at 854x480, H.264, eight sessions and more; no vendor's figure.
MEASURED_480P = 8500.0
_TURING = {"h264": 771.0, "hevc": 1316.0}
_TURING_MHZ = 1860.0
# Video engines, from NVIDIA's Video Encode and Decode GPU Support Matrix.
_ENGINES = {"H200": 7, "H100": 7}


def published(gpu: str, codec: str, height: int, clock_mhz: float) -> float | None:
    """Pictures a second of all engines of a GPU; None where no figure was found.

    Args:
        gpu: Its name, such as `NVIDIA H200`.
        codec: FFmpeg's canonical name.
        height: Of the pictures; figures are for 1080 alone.
        clock_mhz: Video clock while it decodes.
    """
    engines = next((n for name, n in _ENGINES.items() if name in gpu), None)
    if engines is None or codec not in _TURING or height != 1080:
        return None
    return round(_TURING[codec] * engines * clock_mhz / _TURING_MHZ, 1)


def video_clocks() -> dict[str, float]:
    """The video clock now and at most, MHz, by nvidia-smi; empty where it does not say."""
    said = subprocess.run(
        ["nvidia-smi", "-q", "-d", "CLOCK"], capture_output=True, text=True, check=True
    ).stdout
    return clocks_in(said)


def clocks_in(said: str) -> dict[str, float]:
    """The same from what `nvidia-smi -q -d CLOCK` prints."""
    found = {}
    for key, title in (("now_mhz", "Clocks"), ("most_mhz", "Max Clocks")):
        match = re.search(rf"^ +{title}\n(?: {{8,}}.*\n)*? +Video +: (\d+) MHz", said, re.MULTILINE)
        if match is not None:
            found[key] = float(match[1])
    return found


def watched() -> dict[str, Any]:
    """How busy the video engines are, percent, their clock, and the memory in use, now."""
    fields = "utilization.decoder,clocks.current.video,memory.used"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = ("decoder_percent", "video_mhz", "memory_mib")
    values = [value.strip() for value in said.splitlines()[0].split(",")]
    return {
        name: float(value)
        for name, value in zip(names, values, strict=True)
        if re.fullmatch(r"[\d.]+", value)
    }
