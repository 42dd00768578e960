"""DO-Conv in the tools that people train with; each module needs its tool, and nothing else does.

keras        `FoldedCheckpoint`: a callback that saves the folded model
lightning    `DOConvCallback`: converts a module, and saves its folded weights
timm_train   the command that runs timm's train script with DO-Conv
huggingface  `DOConvCallback` for the `Trainer`, and folded safetensors
mmengine     `conv_cfg=dict(type="DOConv")`, and a constructor of optimizers
"""
