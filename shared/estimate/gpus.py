"""GPUs that people train on: memory, dense bfloat16 peak, and bandwidth, from the vendors' data sheets.

Peaks are without structured sparsity, which the sheets of NVIDIA since Ampere double them with, and with accumulation
in float32. A sheet's GB are taken as 10^9 bytes, which is less than what drivers report: the difference is what the
driver's own context takes.
"""

import re
from dataclasses import dataclass

from shared.errors import NotFoundError

GB = 10**9


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the command line takes it.
        memory: bytes.
        tflops: peak of bfloat16 matrix products in 10^12 operations a second; float16 where it has no bfloat16.
        bandwidth: of its memory, bytes per second.
        bfloat16: whether it computes in it. What has not must train in float32, or in float16 with loss scaling.
        source: where the figures stand.
    """

    name: str
    memory: int
    tflops: float
    bandwidth: float
    source: str
    bfloat16: bool = True


def _gpu(name: str, memory: int, tflops: float, bandwidth: int, source: str, *, bfloat16: bool = True) -> Gpu:
    return Gpu(name, memory * GB, tflops, bandwidth * float(GB), source, bfloat16)


GPUS = (
    _gpu("t4", 16, 65, 320, "NVIDIA T4 data sheet", bfloat16=False),
    _gpu("l4", 24, 121, 300, "NVIDIA L4 data sheet: 242 with sparsity"),
    _gpu("a10", 24, 125, 600, "NVIDIA A10 data sheet"),
    _gpu("rtx-3090", 24, 71, 936, "NVIDIA Ampere GA102 white paper: bfloat16 with float32 accumulation"),
    _gpu("rtx-4090", 24, 165.2, 1008, "NVIDIA Ada white paper: bfloat16 with float32 accumulation"),
    _gpu("v100-32gb", 32, 125, 900, "NVIDIA V100 SXM2 data sheet", bfloat16=False),
    _gpu("rtx-5090", 32, 209.5, 1792, "NVIDIA RTX Blackwell white paper: 838 is float16 accumulation with sparsity"),
    _gpu("a100-40gb", 40, 312, 1555, "NVIDIA A100 data sheet, SXM"),
    _gpu("a40", 48, 149.7, 696, "NVIDIA A40 data sheet"),
    _gpu("rtx-a6000", 48, 154.8, 768, "NVIDIA RTX A6000 data sheet"),
    _gpu("l40s", 48, 362, 864, "NVIDIA L40S data sheet"),
    _gpu("a100-80gb", 80, 312, 2039, "NVIDIA A100 data sheet, SXM"),
    _gpu("h100-pcie", 80, 756, 2000, "NVIDIA H100 data sheet, PCIe: 1,513 with sparsity"),
    _gpu("h100", 80, 989.4, 3350, "NVIDIA H100 data sheet, SXM: 1,979 with sparsity"),
    _gpu("h200", 141, 989.4, 4800, "NVIDIA H200 data sheet, SXM: 1,979 with sparsity"),
    _gpu("b200", 180, 2250, 8000, "NVIDIA DGX B200 data sheet: 1,440 GB and 64 TB/s of eight"),
    _gpu("mi300x", 192, 1307.4, 5300, "AMD Instinct MI300X data sheet"),
)
"""In the order of memory, and then of speed."""


def gpu_named(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        NotFoundError: it is not in the table.
    """
    found = {gpu.name: gpu for gpu in GPUS}.get(name.lower())
    if found is None:
        raise NotFoundError(
            f"no GPU {name} in the table ({', '.join(gpu.name for gpu in GPUS)}); for another one give its memory and "
            "its peak"
        )
    return found


# What drivers call them, as patterns, after the vendor's name has gone. Of cards with several memories or sockets, the
# one whose figures the table has; an A10G or H100 NVL is another card, and is not found.
DRIVER_NAMES = {
    r"t4": "t4", r"l4": "l4", r"a10": "a10", r"rtx 3090": "rtx-3090", r"rtx 4090": "rtx-4090", r"rtx 5090": "rtx-5090",
    r"v100-sxm2-32gb": "v100-32gb", r"a100-sxm4-40gb|a100-pcie-40gb": "a100-40gb", r"a40": "a40",
    r"rtx a6000": "rtx-a6000", r"l40s": "l40s", r"a100-sxm4-80gb|a100 80gb pcie": "a100-80gb",
    r"h100 pcie": "h100-pcie", r"h100 80gb hbm3": "h100", r"h200": "h200", r"b200": "b200",
    r"instinct mi300x.*": "mi300x",
}


def gpu_of_device(name: str) -> Gpu | None:
    """The GPU that a driver calls so, such as ``NVIDIA H100 80GB HBM3``; None where the table has not that card."""
    short = re.sub(r"^(nvidia|tesla|geforce|amd)\s+", "", re.sub(r"^nvidia\s+", "", name.strip().lower()))
    found = next((own for pattern, own in DRIVER_NAMES.items() if re.fullmatch(pattern, short)), None)
    return None if found is None else gpu_named(found)
