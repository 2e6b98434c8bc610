"""What pytest leaves alone: the target itself, which needs atheris."""

collect_ignore = ["parser.py"]
