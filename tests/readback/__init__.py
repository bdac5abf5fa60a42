"""A reader of what `gradc.explain` prints: text to numbers, by the conventions of docs/gallery.md and nothing else.

Enters: printed lines, the arrays of the program, and the shapes of its named quantities, which stand in the program
beside the text.  Leaves: the values of all lines.  It shares no code with `gradc.explain`: signs become words
(`signs`), words a tree (`grammar`), the tree values (`values`, `functions`), lines a page (`pages`).
What it cannot read is an `UnreadError`, never a value: no guess is made at what might have been meant.
"""
