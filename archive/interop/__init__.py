"""Other libraries' objects: each module imports its library when it is used."""
