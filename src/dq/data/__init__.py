"""Reads inputs, packs batches, encodes results, writes files."""
