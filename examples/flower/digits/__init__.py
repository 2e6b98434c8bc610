"""digits: a Flower app in plain numpy whose runs resume."""
