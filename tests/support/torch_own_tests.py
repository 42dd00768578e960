"""PyTorch's own tests of its convolutions, with our layers in place of the plain ones.

They are two tables that come with PyTorch: the `NewModuleTest`s, which check an output's gradients
and what goes with them by themselves, and the inputs of `module_db`, whose checks are PyTorch's own
no wheel has. The layers are made in a `torch.nn` that has ours under the plain ones' names.
"""

from __future__ import annotations

import contextlib
import types
from unittest import mock

import hypothesis
import torch
from torch import nn

import do_conv
from do_conv import torch as do_torch

# PyTorch sets up the whole process when its tests are imported: others in this process would run a
# tenth of the examples that `hypothesis` draws, could set no flag of a backend, and script with a
# profiler.
with contextlib.ExitStack() as kept:
    profile = hypothesis.settings.get_current_profile_name()
    kept.callback(hypothesis.settings.load_profile, profile)
    kept.enter_context(mock.patch.object(torch.backends.m, "disable_global_flags"))
    for scripted in (torch._C.ScriptFunction, torch._C.ScriptMethod):
        kept.enter_context(mock.patch.object(scripted, "__call__", scripted.__call__))
    from torch.testing._internal import common_modules, common_nn

NAMES = [f"Conv{lazy}{rank}d" for lazy in ("", "Transpose") for rank in (1, 2, 3)]
# Ours by the plain layers' names.
LAYERS = {
    f"{lazy}{name}": getattr(do_torch, f"{lazy}DO{name}") for name in NAMES for lazy in ("", "Lazy")
}
# What is made of a new layer: D' is zero, as it starts, or drawn.
KINDS = {
    "zero": {"composition": "kernel", "is_drawn": False},
    "drawn": {"composition": "kernel", "is_drawn": True},
    "features": {"composition": "feature", "is_drawn": True},
}


def made(name, kind, *arguments, **options):
    """A layer of ours in place of the plain one of a name."""
    layer = LAYERS[name](*arguments, composition=KINDS[kind]["composition"], **options)
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        layer.register_forward_pre_hook(lambda layer, _: _draw(layer, kind))
    else:
        _draw(layer, kind)
    return layer


def _draw(layer, kind):
    """Fill D' if the kind says so; a lazy layer has one from its first input on."""
    if KINDS[kind]["is_drawn"] and layer.depthwise_delta is not None:
        generator = torch.Generator().manual_seed(0)
        delta = layer.depthwise_delta
        drawn = torch.randn(delta.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            delta.copy_(0.5 * drawn)


def namespace(kind):
    """A copy of `torch.nn` with our layers under the plain ones' names."""
    copy = types.ModuleType("nn")
    layers = {name: _maker(name, kind) for name in LAYERS}
    copy.__dict__.update(vars(nn), **layers)
    return copy


def _maker(name, kind):
    return lambda *arguments, **options: made(name, kind, *arguments, **options)


def like(plain, layer):
    """The plain layer with W' as its weight, by the core, and with the layer's bias."""
    weight = layer.weight.detach().numpy()
    if layer.depthwise_delta is not None:
        weight = do_conv.compose(weight, layer.depthwise_delta.detach().numpy(), layer.groups)
    state = {"weight": torch.from_numpy(weight), "bias": layer.bias}
    plain.load_state_dict({name: value for name, value in state.items() if value is not None})
    return plain


def new_module_tests():
    """The `NewModuleTest`s of convolutions by name, as the arguments that make one."""
    found = {}
    for arguments in common_nn.get_new_module_tests():
        name = arguments.get("module_name") or arguments["fullname"]
        if name.startswith("Conv"):
            found[f"{name}-{arguments.get('desc', '')}-{len(found)}"] = arguments
    return found


def module_infos():
    """The `ModuleInfo`s of convolutions by the plain layers' names."""
    infos = {info.module_cls.__name__: info for info in common_modules.module_db}
    return {name: infos[name] for name in LAYERS}


class Case(common_nn.NNTestCase):
    """What PyTorch's tests ask of a test case: how to run a module, and where its numbers are."""

    def _forward(self, module, input):
        return module(*input) if isinstance(input, tuple) else module(input)

    def _backward(self, module, input, output, grad_output, create_graph=False):
        output.backward(grad_output, retain_graph=True, create_graph=create_graph)
        return None if input.grad is None else input.grad.data

    def _get_parameters(self, module):
        parameters = list(module.parameters())
        return parameters, [parameter.grad for parameter in parameters]

    def _zero_grad_parameters(self, module):
        module.zero_grad(set_to_none=False)

    def runTest(self):  # noqa: N802
        """A case that is made by hand has a test; it is never run."""
