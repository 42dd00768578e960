"""Whether somebody else has written a kernel since it was composed.

Most writes count up the version of a tensor, which the program knows at once. One through `.data`
counts nothing, so a few values of each kernel are compared where they are. A CPU answers at once.
An accelerator works behind the program, which must not wait for it: there the step itself leaves a
foreign kernel as it is, and the next step reads the answer and refuses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from do_conv.models import checks
from do_conv.torch.optimizer import collectives
from do_conv.torch.optimizer.kernels import TrainedKernel
from do_conv.torch.optimizer.sharded import ShardedKernel

# For each kernel of an accelerator, whether it is as it was composed: one boolean on the device.
Own = dict[TrainedKernel, Tensor]


def _is_accelerator(device: torch.device) -> bool:
    return device.type != "cpu"


@torch.no_grad()
def check(
    kernels: Sequence[TrainedKernel],
    is_late: Callable[[torch.device], bool] = _is_accelerator,
    asked: Own | None = None,
) -> Own:
    """Refuse kernels that somebody else has written since they were composed.

    Args:
        kernels: those about to be stepped.
        asked: of a check in the same step, before the network was evaluated. Their device is not
            asked again.
        is_late: whether the answer of a device is read at the next call. Processes that share a
            kernel have to agree on it, and wait for it.

    Returns:
        the answers that are not read yet.

    Raises:
        DOConvError: if a kernel is foreign, or has moved to another device or dtype.
    """
    own: Own = dict(asked or {})
    found = {k for k in kernels if (k not in own and _was_foreign(k)) or k.is_foreign()}
    for alike, samples in _sampled(k for k in kernels if k not in found and k not in own):
        device, are_same = alike[0].parameter.device, _are_same(alike, samples)
        if is_late(device) and not isinstance(alike[0], ShardedKernel):
            own.update(zip(alike, are_same, strict=True))
            if not _is_silent(device):
                answer = Answer(are_same)
                for place, kernel in enumerate(alike):
                    kernel.answer = partial(answer.read, place)
        elif device.type != "meta":
            answers = zip(alike, are_same.tolist(), strict=True)
            found.update(kernel for kernel, is_same in answers if not is_same)
    found = collectives.agreed(found, kernels)
    for kernel in filter(found.__contains__, kernels):
        written = f"a kernel of layer '{kernel.name}' that was written since"
        checks.kernels_as_composed(written, "optimizer")
    return own


def write(kernels: Sequence[TrainedKernel], composed: Tensor, own: Tensor) -> None:
    """Write kernels on an accelerator, and remember a sample of each, in few operators.

    Args:
        kernels: of the same sizes.
        composed: W' of each, `(N, *W')`.
        own: whether each is its own, `(N,)`. One that is not stays as it is, and so does its
            sample: a captured graph will not write it later, either.
    """
    for kernel in kernels:
        kernel.check_place()
    places = [kernel.parameter.detach() for kernel in kernels]
    _copy(places, composed, own)
    _copy(
        [kernel.written_sample for kernel in kernels],
        torch.stack([kernel.sample() for kernel in kernels]),
        own,
    )
    for kernel in kernels:
        kernel.mark_signs()


def _copy(places: list[Tensor], values: Tensor, own: Tensor) -> None:
    """Copy values into each of the places that is its own."""
    kept = torch.where(own.reshape(-1, *[1] * (values.dim() - 1)), values, torch.stack(places))
    torch._foreach_copy_(places, list(kept.unbind()))


def _was_foreign(kernel: TrainedKernel) -> bool:
    """Whether the answer about a kernel, if there is one to read, is that it is foreign."""
    if kernel.answer is None or _is_silent(kernel.parameter.device):
        return False
    is_own = kernel.answer()
    if is_own:
        kernel.answer = None
    return not is_own


class Answer:
    """Booleans that an accelerator is yet to compute, on their way to the program."""

    def __init__(self, flags: Tensor) -> None:
        self._flags = flags.to("cpu", non_blocking=True)
        self._event = None
        if flags.device.type != "cpu":
            self._event = torch.Event(flags.device)
            self._event.record()

    def read(self, place: int) -> bool:
        """One of them, once it is here."""
        if self._event is not None:
            self._event.synchronize()
        return bool(self._flags[place])


def _sampled(kernels: Iterable[TrainedKernel]) -> list[tuple[list[TrainedKernel], list[Tensor]]]:
    """Kernels whose samples can be joined, with these."""
    alike: Any = defaultdict(lambda: ([], []))
    for kernel in kernels:
        sample = kernel.sample()
        of_kind = alike[type(kernel), sample.device, sample.dtype, len(sample)]
        of_kind[0].append(kernel)
        of_kind[1].append(sample)
    return list(alike.values())


def _are_same(kernels: Sequence[TrainedKernel], samples: list[Tensor]) -> Tensor:
    """Whether each kernel has the values that were written, NaN too, in few operators."""
    now, written = (
        torch.cat(values).view(torch.uint8).unflatten(0, (len(kernels), -1))
        for values in (samples, [kernel.written_sample for kernel in kernels])
    )
    return (now == written).all(1)


def _is_silent(device: torch.device) -> bool:
    """Whether nobody answers: a graph is captured, which runs later, or there is no device."""
    is_capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return is_capturing or device.type == "meta"
