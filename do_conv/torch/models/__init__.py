"""Whole models.

conversion     `convert`
planning       `plan`, and what `convert` decides about each layer
classes        the class that takes a layer's place
folding        `fold`
guards         networks that re-parameterise themselves
wrappers       networks inside `DataParallel` and the like
state          `folded_state_dict`: the folded weights alone
training       `composed` and `parameter_groups`
verification   `verify`
"""
