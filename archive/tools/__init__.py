"""What is done with whole archives."""
