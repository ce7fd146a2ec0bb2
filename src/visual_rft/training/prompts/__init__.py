"""Which questions a step asks: their history, and how they are drawn."""
