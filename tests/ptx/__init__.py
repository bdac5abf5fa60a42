"""PTX without a GPU: an interpreter of PTX text, the assembler where there is one, and what is tested with them."""
