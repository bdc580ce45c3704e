"""Functions that tests give to dq as tasks. No pytest here: each task process would import it."""
