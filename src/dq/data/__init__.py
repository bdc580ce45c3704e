"""Values in and out: inputs, batches of them, results."""
