"""Tables of `gradc.ops.fits`, as JSON; ``python -m gradc.ops.tables`` fits them anew."""
