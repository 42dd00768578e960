"""The differences between a step that Keras compiles and one that runs at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from do_conv.core.spec import Spec
from do_conv.tf.composition import unrolled, xla_is_on_cpu


def at_once() -> contextlib.AbstractContextManager[Any]:
    """Outside of a function that TensorFlow may be tracing: values can be read and written."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context: contextlib.AbstractContextManager[Any] = tf.init_scope()
        return context
    return contextlib.nullcontext()


def is_symbolic(condition: Any) -> bool:
    """Whether a truth value is known only when the compiled step runs."""
    try:
        bool(condition)
    except TypeError:  # raised in TensorFlow graphs and by jax tracers
        return True
    return False


def all_before_any(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays, none of which is used before all of them are computed.

    The gradient of D' reads W, and that of W reads D'. TensorFlow orders an update behind such a
    read, but its graph optimizer drops this order: Keras joins the gradients, which makes it look
    redundant, and later the joint is removed. An update could then come before the read.
    """
    if keras.backend.backend() != "tensorflow":
        return arrays
    import tensorflow as tf

    return tuple(tf.tuple(arrays))


def on_arrays(function: Callable[..., Any], spec: Spec, *arrays: Any) -> Any:
    """A function of `do_conv.tf.composition`, in the form that is fastest without derivatives.

    On a CPU TensorFlow has it compiled by XLA, even where the step around it is not: then it
    rounds alike in every step.
    """
    if not xla_is_on_cpu():
        return function(*arrays, spec)
    if keras.backend.backend() == "jax":
        return function(*arrays, spec, unrolled)
    import tensorflow as tf

    return _by_xla(function, spec)(*map(tf.convert_to_tensor, arrays))  # of variables, too


@functools.cache
def _by_xla(function: Callable[..., Any], spec: Spec) -> Callable[..., Any]:
    import tensorflow as tf

    compiled: Callable[..., Any] = tf.function(
        functools.partial(function, spec=spec, sums=unrolled), jit_compile=True, autograph=False
    )
    return compiled


def at_most_once(condition: Any, step: Callable[[Any], Any], values: Any) -> Any:
    """The values after a step where a condition holds, else the values as they are.

    On a CPU XLA computes a branch with one thread, and copies what it gives. A loop that is left
    after a turn it computes with all threads, in place.
    """
    if not is_symbolic(condition):
        # Not raised here: an error within a step would leave the model of jax's `fit` without
        # values.
        return step(values) if condition else values
    first = (condition, values)
    return ops.while_loop(lambda go, _: go, lambda _, kept: (False, step(kept)), first)[1]


def step_if(condition: Any, step: Callable[..., None], grads: Any, variables: Any) -> None:
    """Step in a TensorFlow graph, where a condition holds."""
    import tensorflow as tf

    def branch(grads: Any, variables: Any) -> None:
        # Reducing over the replicas takes gradients of the branch's own graph only.
        step([None if grad is None else tf.identity(grad) for grad in grads], variables)

    def in_all(strategy: Any, condition: Any, *given: Any) -> None:
        first = strategy.experimental_local_results(condition)[0]
        run = strategy.extended.call_for_each_replica
        tf.cond(first, lambda: run(branch, args=given), lambda: None)

    if not tf.distribute.has_strategy():

        def turn(_: Any) -> Any:
            branch(grads, variables)
            return (False,)

        tf.while_loop(lambda go: go, turn, (condition,))  # not tf.cond: see `at_most_once`
    else:  # a branch within a replica could not wait for the others
        context = tf.distribute.get_replica_context()
        context.merge_call(in_all, args=(condition, grads, variables))
