"""Many clients whose replies fill a server's memory."""
