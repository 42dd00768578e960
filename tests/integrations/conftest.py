"""What the tools need on a PyTorch for the CPU."""

from importlib.util import find_spec

if find_spec("torch") and find_spec("torchvision"):
    import cpu_torchvision  # noqa: F401
