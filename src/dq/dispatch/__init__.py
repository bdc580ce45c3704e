"""The lock and the waiting around the board: who gets what, when."""
