"""Whole models as ordinary functions over trees of parameters: each a page long, trained on data that is at hand."""
