"""What goes wrong in numbers while a model trains, where, and why.

`gradc.diagnostics.trace`: where the first NaN, infinity, subnormal or underflowed number came from.  Start reading at
`gradc.diagnostics.origin`.
"""
