"""What goes wrong in numbers while a model trains, where, and why; and what a step takes before it runs.

`trace`: where the first NaN, infinity, subnormal or underflowed number came from (`origin` finds it, `fault` tells it,
`compiled` does so for ``check_nans``).  `report`: the health of a model by layer and parameter (`measure`, `layers`)
and what the texts advise (`advice`).  `forecast`: memory and time.  Start reading at `gradc.diagnostics.origin`, or at
`gradc.diagnostics.measure`.
"""
