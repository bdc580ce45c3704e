"""The standard library's manager, hardened."""
