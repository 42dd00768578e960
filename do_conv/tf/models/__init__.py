"""Whole models.

conversion     `convert`
planning       `plan`, and what `convert` decides about each layer
cloning        models made again, layer by layer
folding        `fold`
state          `folded_weights`: the folded weights alone
verification   `verify`
messages       messages of these functions alone
"""
