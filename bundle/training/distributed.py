"""Training in several processes, started by torchrun: each draws its share of the tiles, gradients are averaged."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bundle.errors import ConfigError

TIMEOUT = timedelta(hours=24)
"""The others wait in their next step while the first process validates; torch's own limit is half an hour."""

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells its processes."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among its fellows.

    Attributes:
        rank: 0 to `size` - 1.
        size: number of processes.
        device: where this process trains: a GPU of its own, or the CPU where there is none.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process validates, logs and saves."""
        return self.rank == 0

    def close(self) -> None:
        """Leave the group."""
        distributed.destroy_process_group()


def join_processes() -> ProcessGroup:
    """Meet the other processes that torchrun started: by NCCL on GPUs, by gloo on CPUs.

    Raises:
        ConfigError: this process was not started by torchrun, or the machine has fewer GPUs than processes.
    """
    if not all(name in os.environ for name in VARIABLES):
        raise ConfigError(
            "multi_gpu_train.yaml is for several processes: start it by `torchrun --nproc_per_node N -m monai.bundle "
            "run ...`, or leave it out"
        )
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if gpus and local >= gpus:
        raise ConfigError(f"--nproc_per_node: {local + 1} processes or more, but {gpus} GPUs; start one a GPU")
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if gpus else "gloo", timeout=TIMEOUT)
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size(), device)


def share_gradients(network: nn.Module) -> DistributedDataParallel:
    """`network` with gradients averaged over the processes after each backward pass.

    Frozen parameters are found anew in every step, so that `FreezeLayers` may freeze them after this.
    """
    on_gpu = next(network.parameters()).is_cuda
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    return DistributedDataParallel(network, device_ids=device_ids, find_unused_parameters=True)
