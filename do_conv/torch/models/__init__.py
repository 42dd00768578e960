"""Whole models.

conversion     `convert`, and `plan`, which says what it would do
served         classes for subclasses of a convolution with a forward pass of their own
folding        `fold`
guards         networks that re-parameterise themselves
wrappers       networks inside `DataParallel` and the like
state          `folded_state_dict`: the folded weights alone
training       `composed` and `parameter_groups`
verification   `verify`
"""
