"""Whole models.

conversion     `convert`
planning       `plan`, and the description of a model
classes        the class that takes a layer's place
folding        `fold`
guards         networks that re-parameterise themselves
structure      how a model is made of modules, and wrappers such as `DataParallel`
state          `folded_state_dict`: the folded weights alone
training       `composed`
optimization   `parameter_groups` and `adaptive_clip_grad`
sharding       networks that FSDP divides among processes
computed       weights that hooks and parametrizations compute
copies         copies of whole networks
verification   `verify`
"""
