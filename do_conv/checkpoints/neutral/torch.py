"""PyTorch's state dicts and the neutral file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from do_conv.core.errors import require_installed

require_installed("torch", extra="torch", user="do_conv.checkpoints.neutral.torch")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from do_conv.checkpoints import layers  # noqa: E402
from do_conv.checkpoints.formats.safetensors import Raw  # noqa: E402
from do_conv.checkpoints.layers import DELTA, SEPARABLE  # noqa: E402
from do_conv.checkpoints.neutral import Description, Neutral  # noqa: E402
from do_conv.core import rules  # noqa: E402

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def from_state_dict(
    state: Mapping[str, Tensor],
    *,
    transposed: Collection[str] = (),
    plain: Mapping[str, int] | None = None,
) -> Neutral:
    """A state dict's tensors, and a description of the layers that are ours.

    A layer whose `weight` was given a D by `over_parameterize` takes the names of a layer of ours.

    Args:
        state: a network's `state_dict()`.
        transposed: the names of transposed layers, ours or plain: the state dict does not tell.
        plain: the groups of plain convolutions by name, to describe these as well.

    Returns:
        everything in `state`, in its order.

    Raises:
        DOConvError: if a layer's arrays do not fit each other, or a tensor has a dtype that
            is not stored.
    """
    described: dict[str, Description] = {}
    names = {name: name for name in state}
    for stored in layers.found(state, layers.TORCH):
        shapes = {role: tuple(state[key].shape) for role, key in stored.keys.items()}
        if stored.kind == "separable" and not layers.is_separable(
            shapes["weight"], shapes["delta"]
        ):
            continue
        spec = layers.spec_of(stored, shapes)
        kind = "separable" if stored.kind == "separable" else _kind(stored.name, transposed)
        described[stored.name] = Description(kind, spec.kernel_size, spec.groups, spec.d_mul)
        before = f"{stored.name}." if stored.name else ""
        own = SEPARABLE if kind == "separable" else DELTA
        names[stored.keys["weight"]] = f"{before}weight"
        names[stored.keys["delta"]] = f"{before}{own}"
    for name, groups in (plain or {}).items():
        weight = state[f"{name}.weight" if name else "weight"]
        kernel_size = tuple(weight.shape[2:])
        described[name] = Description(_kind(name, transposed), kernel_size, groups)
    tensors = {names[name]: _raw(name, tensor) for name, tensor in state.items()}
    return Neutral(tensors, described)


def to_state_dict(neutral: Neutral) -> dict[str, Tensor]:
    """The tensors of a neutral file, under the names of our PyTorch layers.

    Raises:
        DOConvError: if a tensor has a dtype that PyTorch does not have here.
    """
    return {name: _tensor(name, raw) for name, raw in neutral.tensors.items()}


def _kind(name: str, transposed: Collection[str]) -> str:
    return "transposed" if name in transposed else "convolution"


def _raw(name: str, tensor: Tensor) -> Raw:
    dtype = rules.known_name(f"dtype of '{name}'", str(tensor.dtype), map(str, _NAMES))
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes()
    return Raw(_NAMES[getattr(torch, dtype.removeprefix("torch."))], tuple(tensor.shape), data)


def _tensor(name: str, raw: Raw) -> Tensor:
    dtype = _DTYPES[rules.known_name(f"dtype of '{name}'", raw.dtype, _DTYPES)]
    if not raw.data:
        return torch.empty(raw.shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw.data), dtype=dtype).reshape(raw.shape)
