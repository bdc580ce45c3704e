"""Board, dispatcher, server and local workers, wired; and the public calls."""
