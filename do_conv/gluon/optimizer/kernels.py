"""A plain kernel of a network, and the W and D' that are trained in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import Parameter

from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.composition import compose_spec, compose_spec_gradients
from do_conv.gluon.optimizer import loops
from do_conv.gluon.optimizer.values import Values, numbers
from do_conv.gluon.plain import first
from do_conv.gluon.starts import DeltaStart, weight_for
from do_conv.models import checks

# W and D' have the kernel's dtype if it is one of these, else float32.
_WIDE = ("float32", "float64")


class TrainedKernel:
    """A network's kernel W' with its W and D'.

    Attributes:
        name: the name of the layer whose `weight` it is.
        parameter: W', `(C_out, C_in/G, *K)`, the network's own parameter.
        weight: W, a parameter in the shape of W' or with D_mul in place of *K.
        delta: D', a parameter `(C_in, D_mul, *K)`, for a transposed layer `(C_out, D_mul, *K)`.
        spec: the sizes.
        values: the values of W' that were composed.

    Args:
        parts: the values of W and D' to go on with; None is a start from the kernel.
    """

    def __init__(
        self,
        parameter: Any,
        name: str,
        spec: Spec,
        depthwise_init: DepthwiseInit,
        parts: tuple[Any, Any] | None = None,
    ) -> None:
        self.parameter, self.name, self.spec = parameter, name, spec
        self.depthwise_init = depthwise_init
        dtype = np.dtype(parameter.dtype).name
        # The gradient of W is as large as the kernel, so it is kept during a step only.
        own: dict[str, Any] = {"grad_req": "null", "dtype": dtype if dtype in _WIDE else "float32"}
        start = DeltaStart(depthwise_init, spec.kernel_size, spec.d_mul)
        prefix = parameter.name.removesuffix("weight")
        self.delta = Parameter(
            f"{prefix}depthwise_delta", shape=spec.delta_shape, init=start, **own
        )
        self.weight = Parameter(parameter.name, shape=spec.weight_shape, init="zeros", **own)
        self.values = Values(parameter, spec)
        if parts is None:
            self.start()
        else:
            for part, value in zip((self.weight, self.delta), parts, strict=True):
                part._init_impl(value.astype(part.dtype), parameter.list_ctx())
            self.compose()

    def start(self) -> None:
        """Take the kernel as the one that D = I gives, then start D'."""
        ctx = self.parameter.list_ctx()
        self.delta.initialize(ctx=ctx, force_reinit=True)
        kernel = first(self.parameter).astype(self.weight.dtype)
        weight = kernel if self.spec.has_plain_weight else weight_for(kernel, self.spec)
        self.weight.initialize(ctx=ctx, force_reinit=True)
        self.weight.set_data(weight)
        if self.depthwise_init != "identity":  # with the operators that fold a layer
            for i, array in enumerate(self.parameter.list_data()):
                array[:] = self.composed(i)
        self.values.mark()

    @property
    def parts(self) -> tuple[tuple[str, Any], ...]:
        """W and D', each with its name in layers and files."""
        return ("weight", self.weight), ("depthwise_delta", self.delta)

    def load(self, weight: Any, delta: Any) -> None:
        """Take saved values; the network's kernel is compared before the next step."""
        self.weight.set_data(weight)
        self.delta.set_data(delta)
        self.values.forget()

    @property
    def is_stepped(self) -> bool:
        """Whether the kernel has a new gradient in one of its contexts; a frozen one has none."""
        return any(array._fresh_grad for array in self.parameter.list_data())

    def differentiate(self) -> None:
        """Give W and D' their gradients in every context, by the chain rule from that of W'."""
        arrays = self.parameter.list_grad(), *self._arrays()
        found = [self._gradients(*one) for one in zip(*arrays, strict=True)]
        for (_, part), gradients in zip(self.parts, zip(*found, strict=True), strict=True):
            part._grad_req, part._grad = "write", [as_given(one) for one in gradients]
            autograd.mark_variables(part.list_data(), part._grad)
            for array, kernel in zip(part.list_data(), self.parameter.list_data(), strict=True):
                array._fresh_grad = kernel._fresh_grad

    def _gradients(self, grad: Any, weight: Any, delta: Any) -> tuple[Any, Any]:
        grad, weight, delta = legacy_arrays(grad, weight, delta)
        grad = grad.astype(weight.dtype, copy=False)
        if loops.pay(self.spec, grad, weight, delta):
            return loops.gradients(grad, weight, delta, self.spec)
        return compose_spec_gradients(grad, weight, delta, self.spec)

    def forget_gradients(self) -> None:
        """Free the gradients of W and D'."""
        for _, part in self.parts:
            part.grad_req = "null"

    def finish(self) -> None:
        """Write W' in each context in which the trainer has used the gradient of W."""
        for i, (kernel, weight) in enumerate(
            zip(self.parameter.list_data(), self.weight.list_data(), strict=True)
        ):
            if kernel._fresh_grad and not weight._fresh_grad:
                self._write(i)
                kernel._fresh_grad = False

    def composed(self, i: int) -> Any:
        """W' in a context, of W and D' as they are now, in the kernel's dtype."""
        weight, delta = legacy_arrays(*(arrays[i] for arrays in self._arrays()))
        composed = compose_spec(mx.nd, weight, delta, self.spec)
        return as_given(composed.astype(self.parameter.dtype, copy=False))

    def compose(self) -> None:
        """Write W' into the network."""
        for i in range(len(self.parameter.list_data())):
            self._write(i)
        self.values.mark()

    def _write(self, i: int) -> None:
        kernel = self.parameter.list_data()[i]
        weight, delta = (arrays[i] for arrays in self._arrays())
        if loops.pay(self.spec, weight, delta, kernel):
            loops.compose(weight, delta, kernel, self.spec)
        else:
            kernel[:] = self.composed(i)

    def check(self, now: list[Any]) -> None:
        """Refuse a kernel that somebody else has written since it was composed.

        Args:
            now: a sample of its values.

        Raises:
            DOConvError: if it differs from the composition of W and D'.
        """
        if self.values.are_those(now):
            return
        kernels = self.parameter.list_data()
        are_own = all(self._is_near(i, kernel) for i, kernel in enumerate(kernels))
        written = f"a kernel of layer '{self.name}' that was written since"
        checks.kernels_as_composed(None if are_own else written, "trainer")
        self.values.mark()

    def _is_near(self, i: int, kernel: Any) -> bool:
        """Whether a kernel is the composed one, to the rounding of its D_mul products.

        Operators round in another way than the loops, and so may the machine that saved a state.
        """
        kernel, composed = numbers(kernel), numbers(self.composed(i))
        weight, delta = (numbers(arrays[i]) for arrays in self._arrays())
        largest = np.abs(weight).max() * (1 + np.abs(delta).max())
        rounding = np.finfo(weight.dtype).eps * (self.spec.d_mul + 1) * largest
        near = {"rtol": np.finfo(kernel.dtype).eps, "atol": rounding, "equal_nan": True}
        is_equal = np.array_equal(kernel, composed, equal_nan=True)
        return is_equal or bool(np.allclose(kernel, composed, **near))

    def check_contexts(self) -> None:
        """Refuse a kernel that has moved since the trainer was made.

        Raises:
            DOConvError: if it is in other contexts than W and D'.
        """
        now, since = self.parameter.list_ctx(), self.weight.list_ctx()
        if now != since:
            raise broken(
                "a network must stay in the contexts where it was when its trainer was made",
                f"a kernel of layer '{self.name}' on {now}, and its W and D' on {since}",
                "move the network first, then make the trainer",
            )

    def _arrays(self) -> tuple[list[Any], list[Any]]:
        """W and D' in each context."""
        return self.weight.list_data(), self.delta.list_data()


def check(kernels: Sequence[TrainedKernel]) -> None:
    """Refuse kernels that somebody else has written, or moved, before any of them is changed.

    Raises:
        DOConvError: if there is one.
    """
    for kernel in kernels:
        kernel.check_contexts()
    samples = [kernel.values.sample() for kernel in kernels]  # before the first is waited for
    for kernel, now in zip(kernels, samples, strict=True):
        kernel.check(now)


def finish(kernels: Sequence[TrainedKernel]) -> None:
    """Write W' of kernels whose W and D' an optimizer has stepped; all are waited for at once."""
    for kernel in kernels:
        kernel.finish()
    for kernel in kernels:
        kernel.values.mark()
