"""The standard library's manager made safe: what clients may call, and their side of it."""
