"""Whole models.

conversion     `convert`
planning       `plan`, and what `convert` decides about each layer
classes        the class that takes a layer's place
folding        `fold`
state          `folded_parameters`: the folded parameters alone
verification   `verify`
copies         copies of whole networks
"""
