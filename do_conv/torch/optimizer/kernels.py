"""A plain kernel of a network, and the W and D' that are trained in its place."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.torch.composition import compose_spec, loops
from do_conv.torch.layout import is_channels_last
from do_conv.torch.optimizer.gradients import gradients
from do_conv.torch.starts import start_delta, weight_for

# W and D' have the kernel's dtype if it is one of these, else float32.
_WIDE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
# How many values of a kernel are compared before each step.
SAMPLE = 16
Signs = tuple[int, ...]


class TrainedKernel:
    """A network's kernel W' with its W and D'.

    Attributes:
        name: the name of the layer whose `weight` it is.
        parameter: W', `(C_out, C_in/G, *K)`, the network's own parameter.
        weight: W, in the shape of W' or with D_mul in place of *K.
        delta: D', `(C_in, D_mul, *K)`, for a transposed layer `(C_out, D_mul, *K)`.
        spec: the sizes.
        written_sample: some values of W' as it was composed.
        answer: of an accelerator, yet to be read: whether W' was as composed.

    Args:
        values: W and D' to go on with; None is a start from the kernel.
    """

    def __init__(
        self,
        parameter: Tensor,
        name: str,
        spec: Spec,
        depthwise_init: DepthwiseInit,
        values: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.parameter, self.name, self.spec = parameter, name, spec
        self.depthwise_init = depthwise_init
        self._dtype = parameter.dtype
        self._shapes = spec.composed_shape, spec.weight_shape, spec.delta_shape
        self._signs: Signs | None = None
        self._given: int | None = None  # the version of the gradient that W was given
        self._sample: Tensor | None = None
        self.written_sample = self.sample().clone()
        self.answer: Callable[[], bool] | None = None
        dtype = parameter.dtype if parameter.dtype in _WIDE else torch.float32
        weight, delta = self._empty({"dtype": dtype, "device": parameter.device})
        self.weight, self.delta = nn.Parameter(weight), nn.Parameter(delta)
        if values is None:
            self.start()
        else:
            self.load(*values)
            self.compose()

    @functools.cached_property
    def loops_pay(self) -> bool:
        """Whether the C loops can read W and D', and are fast for their sizes."""
        return loops.pay(self.weight, self.delta, self.spec)

    def held(self, array: Tensor) -> Tensor:
        """The numbers of W', of W, of D' or of a gradient that this process holds."""
        return array.detach()

    def _empty(self, like: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """W and D' without values."""
        return torch.empty(self.spec.weight_shape, **like), torch.empty(
            self.spec.delta_shape, **like
        )

    @torch.no_grad()
    def start(self) -> None:
        """Take the kernel as the one that D = I gives, then start D'."""
        self.check_place()
        self._start_parts()
        if self.depthwise_init != "identity":
            self.compose()
        self.mark()

    def _start_parts(self) -> None:
        """Fill W and D' with their start."""
        self.weight.copy_(weight_for(self.parameter.to(self.weight.dtype), self.spec))
        start_delta(self.delta, self.depthwise_init, self.spec)

    def start_equally(self) -> None:
        """Have the random numbers of the first process, as DistributedDataParallel does."""
        for _, part in self.parts:
            distributed.broadcast(part.detach(), 0)
        self.compose()

    def inherited(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with which W goes on, of an optimizer that has trained the kernel before.

        At D = I the gradient of W is that of W'. There is none where W starts as something else.
        """
        values = {key: self._inherited(value) for key, value in state.items()}
        is_drawn = self.is_drawn or any(value is None for value in values.values())
        return {} if is_drawn else values

    def _inherited(self, value: Any) -> Any:
        """A number, or an array of W' in the dtype of W."""
        if isinstance(value, Tensor) and value.shape == self.weight.shape:
            return value.to(self.weight.dtype) if value.is_floating_point() else value
        is_number = isinstance(value, (int, float)) or (
            isinstance(value, Tensor) and not value.dim()
        )
        return value if is_number else None

    @property
    def is_drawn(self) -> bool:
        """Whether the start has random numbers."""
        return self.depthwise_init != "identity" or not self.spec.has_plain_weight

    @property
    def parts(self) -> tuple[tuple[str, nn.Parameter], ...]:
        """W and D', each with its name in layers and files."""
        return ("weight", self.weight), ("depthwise_delta", self.delta)

    @torch.no_grad()
    def load(self, weight: Tensor, delta: Tensor) -> None:
        """Take saved values; the network's kernel is compared before the next step."""
        self.weight.copy_(weight)
        self.delta.copy_(delta)
        self._signs = self.answer = None

    @property
    def grad(self) -> Tensor:
        """The gradient of W', which there is."""
        assert self.parameter.grad is not None
        return self.parameter.grad

    @torch.no_grad()
    def differentiate(self) -> None:
        """Give W and D' their gradients, by the chain rule from that of W'."""
        grad = self.grad.to(self.weight.dtype)
        self.give(*gradients(self.weight, self.delta, grad, self.spec))

    def give(self, of_weight: Tensor, of_delta: Tensor) -> None:
        """Give W and D' their gradients."""
        self.weight.grad, self.delta.grad = of_weight, of_delta
        self._given = of_weight._version

    def follow_zeroing(self) -> None:
        """Zero the gradient of W' where the optimizer inside has zeroed the one that W has.

        On an accelerator one that was zeroed in place is not seen: the program would have to wait.
        """
        if self._given is None or self.parameter.grad is None:
            return
        grad = self.weight.grad
        if grad is None:
            self.parameter.grad = None
        elif grad._version != self._given and grad.device.type == "cpu":
            numbers = self.held(grad).flatten()
            if not numbers[:SAMPLE].any() and not numbers.any():
                self.held(self.parameter.grad).zero_()

    def forget_gradients(self) -> None:
        """Free the gradients of W and D'."""
        self.weight.grad = self.delta.grad = self._given = None

    @torch.no_grad()
    def composed(self) -> Tensor:
        """W', of W and D' as they are now, in the kernel's dtype."""
        return compose_spec(self.weight, self.delta, self.spec).to(self.parameter.dtype)

    @torch.no_grad()
    def compose(self) -> None:
        """Write W', of W and D' as they are now, into the network."""
        if not self._loops_can_write():
            self.write(self.composed())
            return
        self.check_place()
        loops.compose(self.weight, self.delta, True, self.parameter)
        # The C loops write behind PyTorch's back: count it as a write.
        torch.autograd.graph.increment_version(self.parameter)
        self.mark()

    def _loops_can_write(self) -> bool:
        """Whether the C loops can compose in the memory of W'."""
        return (
            self.loops_pay
            and self.spec.has_plain_weight
            and type(self.parameter) in (Tensor, nn.Parameter)
            and self.parameter.dtype == self.weight.dtype
            and self.parameter.is_contiguous()
            and not self.parameter.is_neg()
        )

    @torch.no_grad()
    def write(self, composed: Tensor) -> None:
        """Write a composed W', in the kernel's dtype, into the network."""
        self.check_place()
        self.held(self.parameter).copy_(composed)
        self.mark()

    def mark(self) -> None:
        """Remember the kernel as the one that was composed."""
        # In its memory, which a captured graph goes on to use.
        self.written_sample.copy_(self.sample())
        self.answer = None
        self.mark_signs()

    def mark_signs(self) -> None:
        """Remember what the program knows of the kernel as it was composed."""
        self._signs = self._signs_now()

    def is_foreign(self) -> bool:
        """Whether somebody else has written the kernel since it was composed.

        The program knows it at once from these signs. A write without them shows in a sample.

        Raises:
            DOConvError: if it has moved to another device or dtype, or has other sizes.
        """
        self.check_place()
        if self._signs == self._signs_now() or self.parameter.is_meta:
            return False
        # Saved values may come from a machine that rounds products differently.
        is_right = self._is_near if self._signs is None else _is_equal
        if not is_right(self.composed(), self.held(self.parameter)):
            return True
        self.mark()
        return False

    def check_place(self) -> None:
        """Refuse a kernel that has moved to another device or dtype, or has other sizes.

        Raises:
            DOConvError: if it has.
        """
        self.check_shapes()
        place = self.parameter.device, self.parameter.dtype
        since = self.weight.device, self._dtype
        if place != since:
            raise broken(
                "a model must keep the device and the dtype that it had when its optimizer was "
                "made",
                f"a kernel of layer '{self.name}' on {_words(*place)}, which was on "
                f"{_words(*since)}",
                "move the model first, then make the optimizer",
            )

    def check_shapes(self) -> None:
        """Refuse arrays of other sizes: other code may have replaced their memory.

        Raises:
            DOConvError: if there is one.
        """
        shapes, grad = self._shapes, self.parameter.grad
        arrays = self.parameter, self.weight, self.delta, self.parameter if grad is None else grad
        names = "kernel", "W", "D'", "gradient"
        for name, array, shape in zip(names, arrays, (*shapes, shapes[0]), strict=True):
            if array.shape != shape:
                rules.array_shape(f"the {name} of layer '{self.name}'", shape, array.shape)

    def _is_near(self, composed: Tensor, kernel: Tensor) -> bool:
        """Whether a kernel is the composed one, to the rounding of its D_mul products."""
        if not kernel.numel():
            return True
        largest = self.held(self.weight).abs().max() * (1 + self.held(self.delta).abs().max())
        of_products = torch.finfo(self.weight.dtype).eps * (self.spec.d_mul + 1) * largest
        near = composed.abs() * torch.finfo(self._dtype).eps + of_products
        is_near = (composed - kernel).abs() <= near
        return bool((is_near | (composed == kernel) | (composed.isnan() & kernel.isnan())).all())

    def _signs_now(self) -> Signs:
        """The signs of a write: the versions, of W and D' too, and the memory."""
        kernel = self.held(self.parameter)
        arrays = self.parameter, kernel, self.weight, self.delta
        return *(array._version for array in arrays), kernel.data_ptr()

    def sample(self) -> Tensor:
        """Some values of the kernel, spread over its memory: a view."""
        kernel = self.held(self.parameter)
        # The first of them is the kernel's first, so a view is kept while the kernel stays there.
        if self._sample is None or self._sample.data_ptr() != kernel.data_ptr():
            values = (kernel.movedim(1, -1) if is_channels_last(kernel) else kernel).flatten()
            self._sample = values[:: self._step(len(values))][:SAMPLE]
        return self._sample

    @staticmethod
    @functools.cache
    def _step(numbers: int) -> int:
        """The space between two values of a sample.

        It has no divisor in common with the sizes of the kernel, so that the values are of all
        positions, and of many rows and channels.
        """
        step = max(1, int(numbers / (SAMPLE + 0.5)))
        while math.gcd(step, numbers) > 1:
            step -= 1
        return step

    def __getstate__(self) -> dict[str, Any]:
        # A copy has another memory, and may be on a machine without the C loops.
        own = {name: value for name, value in self.__dict__.items() if name != "loops_pay"}
        return {**own, "_signs": None, "_sample": None, "answer": None}


def _is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, NaN being one."""
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def _words(device: torch.device, dtype: torch.dtype) -> str:
    return f"{device} in {str(dtype).removeprefix('torch.')}"
