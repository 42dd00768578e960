"""Whole models.

conversion     `convert`
planning       `plan`, and the description of a model
classes        the class that takes a layer's place
folding        `fold`
state          `folded_weights`: the folded weights alone
verification   `verify`
structure      how a model is made of layers
copies         copies of whole models, made again layer by layer
"""
