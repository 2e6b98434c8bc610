collect_ignore_glob = ["app/*"]  # Flower loads it, where flwr is
