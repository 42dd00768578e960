"""Whole models.

conversion     `convert`
planning       `plan`, and what `convert` decides about each layer
classes        the class that takes a layer's place
cloning        models made again, layer by layer
folding        `fold`
state          `folded_weights`: the folded weights alone
verification   `verify`
"""
