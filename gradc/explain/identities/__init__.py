"""The identities behind the display rules, by subject.  Each takes a formula and the names in use, and returns an equal
formula or None.  `gradc.explain.rules` gives them their names and their order.
"""
